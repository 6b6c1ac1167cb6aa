"""Examples and benchmarks run, on settings small enough for a test, and write what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from scripts import run_script

ROOT = Path(__file__).parents[2]
SCRIPTS = {folder: sorted((ROOT / folder).glob("*.py")) for folder in ("examples", "benchmarks")}
SMALL = ["--size", "16", "--levels", "2", "--hidden-channels", "8", "--iterations", "2", "--batch-size", "8"]
TINY_RUN = "--size 8 --levels 1 --steps 1 --hidden-channels 4 --max-steps 2 --batch-size 8 --quiet"
EXAMPLES = {
    "first_image_flow": (["--steps", "2", "--out", "picture.png"], "test bits/dim"),
    "compose_with_nflows": ([*SMALL, "--steps", "1", "--output", "picture.png"], "bits/dim"),
    "compose_with_normflows": ([*SMALL, "--blocks", "1", "--output", "picture.png"], "bits/dim"),
    "find_anomalies": (
        ["--normal", "pictures", "--other", "same=pictures", "--count", "4", "--train", TINY_RUN, "--out", "."],
        "same        bits/dim",
    ),
    "tabular_low_rank": (
        ["--side", "8", "--iterations", "2", "--sizes", "64", "--output", "picture.png"],
        "vectors of   64  LULinear / low rank, 32",
    ),
    "lattice_reverse_kl": (
        [
            "--side",
            "4",
            "--steps",
            "1",
            "--iterations",
            "2",
            "--batch-size",
            "8",
            "--samples",
            "50",
            "--hidden-channels",
            "4",
            "--out",
            ".",
        ],
        "effective sample size",
    ),
    "restore": (["--train", TINY_RUN, "--images", "8", "--steps", "3", "--out", "."], "noise  as seen"),
    "penalty_on_samples": (
        ["--side", "8", "--fields", "40", "--steps", "1", "--iterations", "2", "--output", "picture.png"],
        "differential bits/dim of test fields",
    ),
    "super_resolution": (
        [
            "--size",
            "16",
            "--levels",
            "2",
            "--steps",
            "1",
            "--iterations",
            "2",
            "--batch-size",
            "8",
            "--test-images",
            "8",
            "--hidden-channels",
            "8",
            "--output",
            "picture.png",
        ],
        "test bits/dim given the small image",
    ),
    "video_flow": (
        ["--mixings", "time", "--iterations", "1", "--hidden-channels", "4", "--output", "picture.png"],
        "test bits/dim",
    ),
}
TINY = {"size": 8, "levels": 1, "steps": 1, "hidden-channels": 4, "batch-size": 2, "rounds": 2, "threads": 1}
TINY_BENCHMARK = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
BENCHMARKS = {
    "adam": (TINY_BENCHMARK, "fused / foreach"),
    "floor": ([*TINY_BENCHMARK, "--seconds", "0"], "step / network"),
    "glow": ([*TINY_BENCHMARK, "--runs", "1"], "of the faster host"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path) -> None:
    words, expected = EXAMPLES[name]
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        Image.effect_noise((8, 8), 40 + number).convert("RGB").save(tmp_path / "pictures" / f"{number}.png")
    assert expected in run_script(ROOT / "examples" / f"{name}.py", words, tmp_path)
    (picture,) = tmp_path.glob("*.png")
    with Image.open(picture) as image:
        assert image.size[0] > 100


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark(name: str, tmp_path: Path) -> None:
    words, expected = BENCHMARKS[name]
    assert expected in run_script(ROOT / "benchmarks" / f"{name}.py", words, tmp_path)


def test_every_example_is_tried() -> None:
    assert {path.stem for path in SCRIPTS["examples"]} == set(EXAMPLES)


@pytest.mark.parametrize("path", SCRIPTS["examples"], ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 100


@pytest.mark.parametrize("path", [*SCRIPTS["examples"], *SCRIPTS["benchmarks"]], ids=lambda path: path.stem)
def test_scripts_say_how_they_are_used(path: Path, tmp_path: Path) -> None:
    assert "usage:" in run_script(path, ["--help"], tmp_path)
