"""What a row of the tables is, and the selections of tests that several rows name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Mutation(NamedTuple):
    """One fault: what becomes of which snippets in a file, and the arguments of pytest that should find it out."""

    file: str
    tests: str
    name: str
    edits: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def mutated(self, text: str) -> str:
        for old, new in self.edits:
            if text.count(old) != 1 or old == new:
                raise ValueError(f"{self}: the snippet must occur once, and occurs {text.count(old)} times: {old!r}")
            text = text.replace(old, new)
        return text


def rows(file: str, tests: str, *faults: tuple[str, ...]) -> Iterator[Mutation]:
    """Mutations of a file that the same tests notice, each as ``(name, old, new)`` or with more pairs of snippets."""
    for name, *snippets in faults:
        yield Mutation(file, tests, name, tuple(zip(snippets[::2], snippets[1::2], strict=True)))


def laws(cases: str, names: str = "round_trip_in_float64 or test_logabsdet or test_inverse_logabsdet") -> str:
    """Some of the laws that the registry's transforms obey, for some of them."""
    return f"transforms/test_laws.py -k '({names}) and ({cases})'"


DENSE, EMERGING, MACOW = (f"transforms/test_{name}.py" for name in ("dense", "emerging", "macow"))
PERIODIC, SPLINE, VARIATIONAL = (f"transforms/test_{name}.py" for name in ("periodic", "spline", "variational"))
MASKED, DATA, NORMFLOWS = "linalg/test_triangular_conv.py", "data/test_sources.py", "test_normflows.py"
EVALUATION = "evaluation/test_likelihood.py"
FLOW = "test_flow.py test_conditional.py test_assembly.py -k 'not any_mixing and not compile'"
COUPLINGS = "transforms/test_laws.py -k conditional_layers"
BINS = "transforms/test_laws.py -k dequantizers"
PARTS = "train/test_parallel.py -k accumulated"
PROCESSES = "train/test_parallel.py -k 'process'"
AVERAGE = "train/test_lasting.py -k averaged_weights"
DIAGNOSIS = "evaluation/test_diagnosis.py"
