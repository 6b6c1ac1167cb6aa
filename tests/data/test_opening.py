"""What open_source makes of a name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from imagefiles import SHARED, pixels, trained_on, write_image

from nflows_woodbury.data import opening
from nflows_woodbury.data.opening import load_folder, load_hub, open_source
from nflows_woodbury.data.photos import PhotoSource


def cifar10(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    for batch in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        with (folder / name / f"{batch}.bin").open("wb") as file:
            file.truncate(10_000 * 3073)  # zeros, which take no space


def test_photos_are_the_default() -> None:
    assert isinstance(open_source(), PhotoSource)
    assert open_source("photos", size=16).shape == (3, 16, 16)
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        open_source("photos", size=0)
    with pytest.raises(ValueError, match="test_images must be None, as 'photos' has a test set of its own, got 5"):
        open_source("photos", test_images=5)


def test_open_source_finds_the_reader(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=pixels(4, 6, 6, 3))
    np.save(tmp_path / "array.npy", pixels(4, 6, 6, 3))
    write_image(tmp_path / "folder/a.png")
    write_image(tmp_path / "folder/b.png")
    assert open_source(str(tmp_path / "set.npz"), size=6).name == "set"
    assert open_source(str(tmp_path / "array.npy"), size=3).shape == (3, 3, 3)
    assert open_source(str(tmp_path / "folder"), size=2).shape == (3, 2, 2)
    cifar10(tmp_path, "cifar-10-batches-bin")
    assert (
        open_source(str(tmp_path / "cifar-10-batches-bin")).name
        == open_source(str(tmp_path), size=32).name
        == "cifar10"
    )


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (lambda path: np.savez(path / "set.npz", x=pixels(4, 6, 6, 3)) or path / "set.npz", 6),
        (lambda path: cifar10(path, "cifar10") or path / "cifar10", 32),
    ],
    ids=["npz", "cifar10"],
)
def test_size_must_be_that_of_data_that_are_not_resized(
    make: Callable[[Path], Path], side: int, tmp_path: Path
) -> None:
    spec = str(make(tmp_path))
    with pytest.raises(ValueError, match=rf"size must be None or as in .*where it is \({side}, {side}\), got 8"):
        open_source(spec, size=8)
    assert open_source(spec, size=side).shape[1:] == (side, side)


def test_data_with_a_test_set_hold_out_no_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", train=pixels(4, 6, 6), test=pixels(4, 6, 6))
    cifar10(tmp_path, "cifar10")
    (tmp_path / "imagenet/train_32x32").mkdir(parents=True)
    for name in ("set.npz", "cifar10", "imagenet"):
        with pytest.raises(
            ValueError, match=f"test_images must be None, as '.*{name}' has a test set of its own, got 2"
        ):
            open_source(str(tmp_path / name), test_images=2)


def test_open_source_explains_what_would_do(tmp_path: Path) -> None:
    kinds = r"'photos', a folder, an \.npz, \.npy or \.parquet file, an archive of CIFAR-10 or hf:OWNER/NAME"
    with pytest.raises(FileNotFoundError, match=f"'absent' is not there; give {kinds}"):
        open_source("absent")
    (tmp_path / "notes.txt").write_text("no images")
    with pytest.raises(ValueError, match=rf"spec must be {kinds}; got the file .*notes\.txt"):
        open_source(str(tmp_path / "notes.txt"))
    (tmp_path / "images.tar.gz").write_text("no images")
    with pytest.raises(ValueError, match=r"images\.tar\.gz cannot be read as an archive of CIFAR-10"):
        open_source(str(tmp_path / "images.tar.gz"))


def test_every_reader_is_public() -> None:
    assert all(hasattr(opening, name) for name in opening.__all__)


@pytest.mark.skipif(not (SHARED / "ffhq256").is_dir(), reason="shared/data is not beside the repository")
def test_real_faces_are_resized_once(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(SHARED / "ffhq256" / "ffhq256_1000.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:60]
        archive.extractall(tmp_path / "faces", names)
    first, again = (open_source(str(tmp_path / "faces"), size=64, test_images=20, cache=tmp_path) for _ in range(2))
    assert (first.shape, len(first.test)) == ((3, 64, 64), 20)
    assert np.array_equal(trained_on(first).images, trained_on(again).images)
    assert 60 < trained_on(first).images.float().mean() < 200


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("skimage.data", "train", lambda folder: PhotoSource()),
        ("PIL.Image", "train", lambda folder: load_folder(folder)),
        ("datasets", "datasets", lambda folder: load_hub("owner/name")),
    ],
    ids=["photos", "folder", "hub"],
)
def test_missing_extras_say_how_to_get_them(
    module: str, name: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is missing: pip install nflows-woodbury\[{name}\]"):
        call(tmp_path)


def test_import_needs_no_extras() -> None:
    block = "import sys; sys.modules.update(PIL=None, skimage=None, datasets=None)"
    code = f"{block}; import nflows_woodbury.data, nflows_woodbury.data.opening"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
