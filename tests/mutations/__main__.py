"""Mutation check: break one formula at a time in a copy of the package, and see whether the tests notice.

    python tests/mutations [--only TEXT ...] [--jobs N] [--list]

Each row of the tables in rooms/ replaces a snippet, which must occur exactly once in its file, and names the tests that
should fail for it. First the same tests pass on an unchanged copy. A mutation survives where they still pass, and then
the exit status is 1: either the change is no fault, and another one should stand in its place, or a law is missing.
Nothing is written to the checkout. pytest collects none of these files: a whole run with two jobs takes ten minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from copies import ROOT, run_copy, snapshot
from rooms import MUTATIONS
from table import Mutation


def check_table() -> None:
    """ValueError unless every snippet is in its file once, every file of tests is there, and all names differ."""
    for mutation in MUTATIONS:
        mutation.mutated((ROOT / "nflows_woodbury" / mutation.file).read_text())
        for word in mutation.tests.split():
            if word.endswith(".py") and not (ROOT / "tests" / word).exists():
                raise ValueError(f"{mutation}: tests/{word} is not there")
    twice = [name for name, count in Counter(map(str, MUTATIONS)).items() if count > 1]
    if twice:
        raise ValueError(f"names must differ, got twice: {twice}")


def check_selections(base: Path, chosen: Sequence[Mutation], pool: ThreadPoolExecutor) -> list[str]:
    """The selections of tests that do not pass on the unchanged package, which says nothing about their mutations."""
    bad, selections = [], list(dict.fromkeys(mutation.tests for mutation in chosen))
    for tests, result in zip(selections, pool.map(lambda tests: run_copy(base, tests), selections), strict=True):
        print(f"{result.verdict:<9}{result.seconds:6.1f} s  unchanged: {tests}  {result.failed}", flush=True)
        if result.verdict != "passed":
            bad.append(tests)
    return bad


def check_mutations(base: Path, chosen: Sequence[Mutation], pool: ThreadPoolExecutor) -> list[Mutation]:
    """The mutations that the tests did not catch."""
    survived = []
    for mutation, result in zip(chosen, pool.map(lambda m: run_copy(base, m.tests, m), chosen), strict=True):
        verdict = {"passed": "SURVIVED", "failed": "caught"}.get(result.verdict, result.verdict)
        print(f"{verdict:<9}{result.seconds:6.1f} s  {mutation}  {result.failed}", flush=True)
        if verdict != "caught":
            survived.append(mutation)
    return survived


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/mutations", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="mutations with one of these in 'file: name'")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutations at a time (default: 1)")
    parser.add_argument("--list", action="store_true", help="check that every snippet is there, and run nothing")
    options = parser.parse_args(arguments)
    check_table()
    chosen = [m for m in MUTATIONS if options.only is None or any(text in str(m) for text in options.only)]
    if options.list:
        print(*chosen, f"{len(chosen)} mutations", sep="\n")
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        base = snapshot(Path(folder).resolve())
        bad = check_selections(base, chosen, pool)
        tried = [mutation for mutation in chosen if mutation.tests not in bad]
        survived = check_mutations(base, tried, pool)
    caught = len(tried) - len(survived)
    print(f"{caught} of {len(chosen)} mutations caught in {time.perf_counter() - start:.0f} s")
    for mutation in survived:
        print(f"not caught: {mutation}")
    for tests in bad:
        print(f"not tried, as they fail on the unchanged package: the mutations of {tests}")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
