"""What the front door costs: the import of a layer beside that of torch and nflows alone, and of the help texts.

Run it with: python benchmarks/imports.py
Each is a new process, in turn, so that what else the machine does falls on all alike. Prints one JSON object: medians
of the seconds, and the median of the quotients of neighbours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from time import perf_counter

HOSTS = "import torch, nflows.transforms, nflows.distributions"
LAYER = "from nflows_woodbury import WoodburyTransform"
COMMANDS = (["--help"], ["--version"], ["train", "--help"], ["presets"], ["presets", "show", "cifar10-woodbury"])


def seconds(*words: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", *words], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    seconds("-c", HOSTS), seconds("-c", LAYER)  # files into memory
    pairs = [(seconds("-c", HOSTS), seconds("-c", LAYER)) for _ in range(runs)]
    commands = {
        " ".join(words): median(seconds("-m", "nflows_woodbury", *words) for _ in range(runs)) for words in COMMANDS
    }
    hosts, layer = (median(times) for times in zip(*pairs, strict=True))
    report = {"hosts": hosts, "layer": layer, "quotient": median(ours / theirs for theirs, ours in pairs), **commands}
    print(json.dumps({name: round(value, 3) for name, value in report.items()}, indent=2))


if __name__ == "__main__":
    main()
