"""Make records of the results page from what examples/compare_mixing.py and benchmarks/starts.py wrote.

    python docs/collect.py FOLDER --out docs/records/comparison.json device="CPU, 1 thread" torch=2.13.0 commit=8eaef42
    python docs/collect.py STARTS.jsonl --out docs/records/starts-20000-512.jsonl device="CPU, 1 thread" ...

The words after the file say what these scripts do not record; they are added to each record. Times are left out, and
of a folder whatever is not named as compare_mixing.py names its records.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TIMES = {"train", "forward", "inverse", "seconds_per_step"}


def collect(paths: Iterable[Path], facts: dict[str, str]) -> list[dict[str, Any]]:
    """The records of folders and files that those scripts wrote, with ``facts`` added to each."""
    records: list[dict[str, Any]] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(path.glob("*-*-*-*.json")):
                mixing, coupling, steps, seed = file.stem.rsplit("-", 3)
                record = {"mixing": mixing, "coupling": coupling, "max_steps": int(steps), "seed": int(seed)}
                records.append(record | json.loads(file.read_text()))
        else:
            records += [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in (record | facts).items() if key not in TIMES} for record in records]


def main() -> None:
    """Read the arguments and write the file: a list, or a line for each record."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="folders of compare_mixing.py, files of starts.py")
    parser.add_argument("--out", nargs="+", required=True, metavar=("FILE", "KEY=VALUE"), help="a .json or .jsonl file")
    options = parser.parse_args()
    out, facts = Path(options.out[0]), dict(fact.split("=", 1) for fact in options.out[1:])
    lines = [json.dumps(record) for record in collect(options.paths, facts)]
    out.write_text("\n".join(lines) + "\n" if out.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
