"""Find what does not belong: train on usual images, then score others, and usual ones that were spoiled.

    python examples/find_anomalies.py --normal faces --other churches=photos/churches objects=cifar-10-python.tar.gz

writes OUT/anomalies.json, the AUROC of each score on each kind of strange images, and OUT/anomalies.png, ROC curves.
Four scores, each higher for what is stranger: bits/dim; bits/dim less what PNG needs (Serra et al., ICLR 2020); the
distance of bits/dim from what is usual (typicality, Nalisnick et al., 2019); and that of the noise's norm.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checkpoint import Run, open_run
from nflows_woodbury.cli.main import main as command
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import all_images
from nflows_woodbury.evaluation.scores import Scores, auroc, score_images
from nflows_woodbury.files import write_json


def spoiled(images: Tensor) -> dict[str, Tensor]:
    """The same images with noise, out of focus, and with a grey patch."""
    noise = 20 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    covered, side = images.clone(), images.shape[-1] // 3
    covered[:, :, side : 2 * side, side : 2 * side] = 128
    return {
        "noise": (images + noise).round().clamp(0, 255).byte(),
        "blur": F.avg_pool2d(images.float(), 3, 1, 1, count_include_pad=False).round().byte(),
        "patch": covered,
    }


def strangeness(found: Scores, usual: Scores) -> dict[str, Tensor]:
    """What is higher for stranger images; ``usual`` are images that are known to be normal."""
    return {
        "bits/dim": found.bits_per_dim,
        "bits/dim less PNG": found.difference,
        "typicality": (found.bits_per_dim - usual.bits_per_dim.median()).abs(),
        "norm": (found.norm - usual.norm.median()).abs(),
    }


def roc(normal: Tensor, strange: Tensor) -> dict:
    """The area under the curve, and the curve: rates of false and true positives over thresholds."""
    both = torch.cat([normal, strange])
    thresholds = both.quantile(torch.linspace(1, 0, 60, dtype=torch.float64))
    curve = [[float((values > t).double().mean()) for values in (normal, strange)] for t in thresholds]
    return {"auroc": auroc(both, torch.arange(len(both)) >= len(normal)), "curve": curve}


def compare(run: Run, kinds: dict[str, Tensor], count: int) -> dict[str, dict[str, dict]]:
    """AUROC and ROC curve of each score on each kind, against the second half of what the run held out."""
    usual, normal = (score_images(run.flow, ImageSet(part)) for part in run.source.test.images[: 2 * count].chunk(2))
    results: dict[str, dict[str, dict]] = {}
    for kind, images in kinds.items():
        found = strangeness(score_images(run.flow, ImageSet(images[:count])), usual)
        results[kind] = {name: roc(strangeness(normal, usual)[name], values) for name, values in found.items()}
        print(f"{kind:10}" + "".join(f"  {name} {cell['auroc']:.3f}" for name, cell in results[kind].items()))
    return results


def draw(results: dict[str, dict[str, dict]], path: Path) -> None:
    """A panel for each kind, a curve for each score."""
    figure = Figure(figsize=(2.2 * len(results), 2.6), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True)
    for axes, (kind, scores) in zip(panels, results.items(), strict=True):
        for name, cell in scores.items():
            axes.plot(*zip(*cell["curve"], strict=True), label=f"{name}, {cell['auroc']:.2f}")
        axes.set(title=kind, xlabel="false positives", ylabel="true positives" if axes is panels[0] else "")
        axes.legend(fontsize=6)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", required=True, help="usual images, as --data of nflows-woodbury train")
    parser.add_argument("--other", nargs="*", default=[], metavar="NAME=DATA", help="strange images")
    parser.add_argument("--count", type=int, default=250, help="images of each kind, at most")
    parser.add_argument("--train", default="--size 32 --max-steps 1500", help="further words for nflows-woodbury train")
    parser.add_argument("--out", type=Path, default=Path("anomalies"))
    given = parser.parse_args()
    folder, words = given.out / "run", ["--data", given.normal, "--test-images", str(2 * given.count)]
    if not (folder / "result.json").exists():
        command(["train", *words, *given.train.split(), "--out", str(folder)])
    run = open_run(folder)
    others = (pair.split("=", 1) for pair in given.other)
    kinds = {name: all_images(data, size=run.flow.shape[1:])[0].images for name, data in others}
    results = compare(run, kinds | spoiled(run.source.test.images[given.count :]), given.count)
    write_json(given.out / "anomalies.json", results)
    draw(results, given.out / "anomalies.png")


if __name__ == "__main__":
    main()
