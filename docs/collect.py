"""Make records of the results page from folders of ``nflows-woodbury compare`` and files of benchmarks/starts.py.

    python docs/collect.py FOLDER --out docs/records/mixings-NAME.jsonl device="2-core CPU, 1 thread"
    python docs/collect.py STARTS.jsonl --out docs/records/starts-20000-512.jsonl device="CPU, 1 thread" ...

The words after the file say what these do not record, or not well; they take the place of what is in each record. Of a
folder's runs those count that are done; of the file that they were trained on, the name.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def collect(paths: Iterable[Path], facts: dict[str, str]) -> list[dict[str, Any]]:
    """The records of folders and files, with ``facts`` in each."""
    records: list[dict[str, Any]] = []
    for path in paths:
        if path.is_dir():
            records += [plain(json.loads(file.read_text())) for file in sorted(path.glob("*/record.json"))]
        else:
            records += [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {key: value for key, value in (record | facts).items() if key != "seconds_per_step"} for record in records
    ]  # fmt: skip


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what tells it from others at its top, and without the folders of its machine."""
    training = record["training"] | {"data": Path(record["training"]["data"]).name}
    names = {name: record["flow"][name] for name in ("mixing", "coupling")}
    numbers = {name: training[name] for name in ("max_steps", "seed")}
    return {**names, **numbers, **record, "training": training}


def main() -> None:
    """Read the arguments and write the file: a list, or a line for each record."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="folders of nflows-woodbury compare, files of starts.py")
    parser.add_argument("--out", nargs="+", required=True, metavar=("FILE", "KEY=VALUE"), help="a .json or .jsonl file")
    options = parser.parse_args()
    out, facts = Path(options.out[0]), dict(fact.split("=", 1) for fact in options.out[1:])
    lines = [json.dumps(record) for record in collect(options.paths, facts)]
    out.write_text("\n".join(lines) + "\n" if out.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
