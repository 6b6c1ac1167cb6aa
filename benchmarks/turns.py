"""What the flows of a comparison cost, all mixings in turn, so that other work on the machine slows all alike.

Each round measures one run of every mixing, as ``nflows-woodbury compare`` does after its training; the shortest times
of all rounds count. They are written into the records of the folder, or into others of the same flows:

    python benchmarks/turns.py FOLDER
    python benchmarks/turns.py FOLDER --records docs/records/mixings-NAME.jsonl --device "2-core CPU, 1 thread"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.checkpoint import open_run
from nflows_woodbury.evaluation.costs import costs
from nflows_woodbury.files import whole_file, write_json

TIMES = ("step_milliseconds", "sampling_milliseconds")


def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """The shortest times of each mixing's first run in a folder of ``compare``."""
    opened = {}
    for path in sorted(folder.glob("*/record.json")):
        mixing = json.loads(path.read_text())["flow"]["mixing"]
        if mixing not in opened:
            opened[mixing] = open_run(path.parent)
    found: dict[str, list[dict[str, float]]] = {mixing: [] for mixing in opened}
    for _ in range(rounds):
        for mixing, run in opened.items():
            found[mixing].append(costs(run))
    return {mixing: {name: min(one[name] for one in of_it) for name in TIMES} for mixing, of_it in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of nflows-woodbury compare")
    parser.add_argument("--records", type=Path, help="a .jsonl file to write the times into (default: the folder's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", help="words that say where the times were measured, for the records")
    options = parser.parse_args()
    torch.set_num_threads(1)
    times = measure(options.folder, options.rounds)
    facts = {"timed_on": options.device} if options.device else {}

    def timed(record: dict[str, Any]) -> dict[str, Any]:
        mixing = record["flow"]["mixing"]
        return record | times[mixing] | facts if mixing in times else record

    if options.records:
        lines = [json.dumps(timed(json.loads(line))) for line in options.records.read_text().splitlines()]
        with whole_file(options.records) as new:
            new.write_text("\n".join(lines) + "\n")
    else:
        for path in options.folder.glob("*/record.json"):
            write_json(path, timed(json.loads(path.read_text())))
    for mixing, of_it in times.items():
        print(f"{mixing:24} {of_it[TIMES[0]]:8.2f} ms/step {of_it[TIMES[1]]:8.3f} ms/sample", flush=True)


if __name__ == "__main__":
    main()
