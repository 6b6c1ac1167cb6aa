"""Given minutes and a GPU: all that waits for one, in order of value, with the results on disk after each.

    python benchmarks/gpu.py --minutes 40 --data path/to/cifar-10-python.tar.gz --out gpu
    python benchmarks/gpu.py --minutes 2 --data photos --small --out trial           # without a GPU, in a minute or two

A stage is one command, whose files go to OUT/STAGE. OUT/gpu.json says of each how it ended, how long it took and what
it printed last. Given the same OUT again, stages that went well are not repeated, except the last one, which trains and
goes on from where it was; so the minutes may come in several portions.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from mixing import versions

from nflows_woodbury.files import write_json

HERE = Path(__file__).parent
TESTS = shlex.quote(str(HERE.parent / "tests"))
SPARE = 60.0  # seconds that the training leaves for its evaluation


@dataclass(frozen=True)
class Stage:
    """A script of this folder, the minutes that it may take, and its words on a GPU and in a trial without one."""

    name: str
    minutes: float
    script: str
    on_gpu: str
    in_trial: str

    def command(self, small: bool) -> list[str]:
        """What is run."""
        words = shlex.split(self.in_trial if small else self.on_gpu)
        return [sys.executable, *(["-m", "pytest"] if self.script == "pytest" else [str(HERE / self.script)]), *words]


TINY = "--small --no-compile --device cpu --seconds 0.01 --out ."
#: by value: what is wrong makes what comes after it worthless
STAGES = [
    Stage("tests", 8, "pytest", f"-q -m cuda {TESTS}", f"-q {TESTS}/linalg/test_householder.py"),
    Stage("correctness", 3, "device.py", "correctness --out .", f"correctness {TINY}"),
    Stage("mixing", 3, "mixing.py", "criteria --runs 1 --device cuda --out .",
          "criteria --runs 1 --sizes 2x4x4x4 --seconds 0.001 --layers woodbury conv2d --out ."),
    Stage("glow", 3, "glow.py", "--runs 1 --device cuda --json glow.json",
          "--runs 1 --rounds 2 --size 8 --levels 1 --steps 1 --hidden-channels 4 --batch-size 2 --json glow.json"),
    Stage("speed", 6, "device.py", "training --out .", f"training {TINY}"),
    Stage("sampling", 3, "device.py", "sampling --out .", f"sampling {TINY}"),
    Stage("memory", 4, "device.py", "memory --out .", f"memory {TINY}"),
    Stage("copy", 2, "device.py", "copy --out .", f"copy {TINY}"),
]  # fmt: skip


def training(data: str, seconds: float) -> Stage:
    """The CIFAR-10 flows, for the time that is left."""
    tiny = "steps=1 levels=1 channel_ranks=None pixel_ranks=None hidden_channels=4 batch_size=4"
    return Stage(
        "training",
        seconds / 60,
        "budget.py",
        f"--minutes {max(1, (seconds - SPARE) / 60):.2f} --data {data} --out .",
        f"--minutes 0.01 --data {data} --points 1 --set {tiny} --out .",
    )


@dataclass(frozen=True)
class Result:
    """How a stage ended: its exit status, None if it was stopped, and the end of what it printed."""

    name: str
    command: str
    status: int | None
    seconds: float
    output: str


def run(stage: Stage, small: bool, seconds: float, folder: Path) -> Result:
    """Its command, in a folder of its own, stopped after so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    command, began, log = stage.command(small), perf_counter(), folder / "output.txt"
    with log.open("w") as file:
        try:
            done = subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = None
    printed = log.read_text(errors="replace")
    return Result(stage.name, " ".join(command), status, perf_counter() - began, printed[-4000:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="for all stages together")
    parser.add_argument("--data", required=True, help="CIFAR-10, as in nflows-woodbury train")
    parser.add_argument("--small", action="store_true", help="sizes for a trial without a GPU")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    options = parser.parse_args()
    if options.data != "photos":
        options.data = str(Path(options.data).resolve())
    end, path = perf_counter() + 60 * options.minutes, options.out / "gpu.json"
    before = json.loads(path.read_text())["stages"] if path.exists() else []
    results = {result["name"]: result for result in before if result["status"] == 0 and result["name"] != "training"}
    for stage in [*STAGES, None]:
        left = end - perf_counter()
        stage = training(shlex.quote(options.data), left) if stage is None else stage
        if stage.name in results or left <= 0:
            continue
        result = run(stage, options.small, min(60 * stage.minutes, left), options.out / stage.name)
        results[stage.name] = asdict(result)
        write_json(path, {"versions": versions(), "stages": list(results.values())})
        how = {None: "stopped", 0: "done"}.get(result.status, f"failed with status {result.status}")
        print(f"{stage.name:12} {how}, {result.seconds:.0f} s", flush=True)
    if missing := [stage.name for stage in STAGES if stage.name not in results]:
        print(f"no time was left for {', '.join(missing)}")
    return 0 if not missing and all(result["status"] == 0 for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
