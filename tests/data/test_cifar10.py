"""CIFAR-10 from archives and folders: every format, and broken, incomplete and crafted files."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagefiles import SHARED, Payload, nhwc, pixels, rng

from nflows_woodbury.data import splits
from nflows_woodbury.data.opening import load_cifar10, open_source
from nflows_woodbury.data.sources import ArraySource

few = partial(load_cifar10, batch_images=None)  # of these tests, batches of few images
CIFAR_FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def numpy1_pickle(rows: np.ndarray, labels: list[int]) -> bytes:
    """Pickle a batch as Python 2 with numpy 1 did: the official files' opcodes, byte strings and names."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"I0\nI1\ntR(I3\n" + text(b"|") + b"NNNI-1\nI-1\nI0\ntb"
    shape = b"(I%d\nI%d\nt" % rows.shape
    state = b"(I1\n" + shape + dtype + b"I00\n" + text(rows.tobytes()) + b"tb"
    numbers = b"(" + b"".join(b"I%d\n" % label for label in labels) + b"l"
    return b"\x80\x02(" + text(b"data") + array + state + text(b"labels") + numbers + b"d."


def modern_pickle(rows: np.ndarray, labels: list[Any]) -> bytes:
    return pickle.dumps({"data": rows, "labels": labels}, protocol=4)


def binary(rows: np.ndarray, labels: list[int]) -> bytes:
    return np.column_stack([np.array(labels, np.uint8), rows]).tobytes()


FORMATS: dict[str, tuple[Callable[[np.ndarray, list[int]], bytes], str, str]] = {
    "python 2": (numpy1_pickle, "", "cifar-10-batches-py"),
    "python 3": (modern_pickle, "", "cifar-10-batches-py"),
    "binary": (binary, ".bin", "cifar-10-batches-bin"),
}


def write_cifar10(parent: Path, kind: str = "binary") -> tuple[Path, np.ndarray, np.ndarray]:
    """Write six batches of 4 images and return their folder, images (24, 3, 32, 32) and labels (24,)."""
    dump, suffix, name = FORMATS[kind]
    folder, rows, labels = parent / name, pixels(24, 3072), rng.integers(10, size=24)
    labels[0] = 9
    folder.mkdir()
    for i, file in enumerate(CIFAR_FILES):
        part = slice(4 * i, 4 * i + 4)
        (folder / (file + suffix)).write_bytes(dump(rows[part], labels[part].tolist()))
    return folder, rows.reshape(-1, 3, 32, 32), labels


@pytest.mark.parametrize("kind", FORMATS)
def test_cifar10_formats(kind: str, tmp_path: Path) -> None:
    folder, images, labels = write_cifar10(tmp_path, kind)
    for path in (folder, tmp_path, str(folder)):
        cifar10 = few(path)
        assert (cifar10.name, cifar10.shape, cifar10.num_classes) == ("cifar10", (3, 32, 32), 10)
        assert cifar10.validation is not None
        kept, held_out = splits._hold_out(np.arange(20), 1)
        train = cifar10._train
        assert train.labels is not None
        assert cifar10.test.labels is not None
        assert np.array_equal(train.images.numpy(), images[:20])
        assert np.array_equal(train.labels.numpy(), labels[:20])
        assert np.array_equal(cifar10.validation.images.numpy(), images[held_out])
        assert np.array_equal(cifar10.test.images.numpy(), images[20:])
        assert np.array_equal(cifar10.test.labels.numpy(), labels[20:])
        assert sorted(cifar10._rows) == sorted(kept)


def test_cifar10_missing_batches(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds none of data_batch_1, .*test_batch"):
        few(tmp_path)
    folder, *_ = write_cifar10(tmp_path)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin is missing"):
        few(tmp_path)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("binary", bytes(3072), "cannot be read as a CIFAR-10 batch: 3072 bytes are no whole number"),
        ("binary", b"", "must have shape"),
        ("binary", bytes([10]) + bytes(3072), "must hold labels from 0 to 9, got 10"),
        ("python 3", b"not a pickle", "cannot be read as a CIFAR-10 batch"),
        ("python 3", pickle.dumps({"data": []}), "cannot be read as a CIFAR-10 batch: 'labels'"),
        (
            "python 3",
            modern_pickle(pixels(2, 99), [0, 1]),
            r"rows of 3072 pixels, got data of shape \(2, 99\)",
        ),
        ("python 3", modern_pickle(pixels(2, 3072), [0]), "needs 2 integers from 0 as labels"),
        ("python 3", modern_pickle(pixels(2, 3072), [0, -1]), "needs 2 integers from 0 as labels"),
        ("python 3", modern_pickle(pixels(1, 3072), ["dog"]), "needs 1 integers from 0 as labels"),
        ("python 3", modern_pickle(np.zeros((1, 3072)), [0]), "must be uint8 .*got float64 from 0.0 to 0.0"),
    ],
)
def test_cifar10_broken_batches_are_named(kind: str, content: bytes, message: str, tmp_path: Path) -> None:
    folder, *_ = write_cifar10(tmp_path, kind)
    file = folder / ("data_batch_3" + FORMATS[kind][1])
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name}.* {message}"):
        few(folder)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_crafted_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    folder, *_ = write_cifar10(tmp_path, "python 3")
    written = tmp_path / "written"
    crafted = pickle.dumps({"data": pixels(1, 3072).tolist(), "labels": Payload(written)}, protocol)
    pickle.loads(crafted)
    assert written.exists(), "the payload works where it is let"
    written.unlink()
    (folder / "data_batch_1").write_bytes(crafted)
    with pytest.raises(ValueError, match=r"data_batch_1 .*(__builtin__|builtins)\.\w+ is refused"):
        few(folder)
    assert not written.exists()


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="shared/data is not beside the repository")
def test_cifar10_real_images(tmp_path: Path) -> None:
    spec = spec_from_file_location("shared_data_load", SHARED / "load.py")
    assert spec is not None
    assert spec.loader is not None
    load = module_from_spec(spec)
    spec.loader.exec_module(load)
    subprocess.run([sys.executable, str(SHARED / "load.py"), "--cifar-bin", str(tmp_path)], check=True)
    (tmp_path / "test_batch.bin").write_bytes((tmp_path / "data_batch_5.bin").read_bytes())
    images, labels = load.cifar10("train")
    cifar10 = open_source(str(tmp_path))
    assert isinstance(cifar10, ArraySource)
    assert (len(cifar10.validation or ()), cifar10.num_classes) == (1000, 10)
    assert np.array_equal(nhwc(cifar10._train), images)
    assert np.array_equal(cifar10._train.labels, labels)
    assert np.array_equal(nhwc(cifar10.test), images[40_000:])


# Archives

ARCHIVES = {
    "python 2": "cifar-10-python.tar.gz",
    "python 3": "cifar-10-python.tar.gz",
    "binary": "cifar-10-binary.tar.gz",
}


def write_archive(parent: Path, kind: str, **changes: bytes | None) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write an archive as the official ones are, of batches of 4 images, some of them changed or left out."""
    folder, images, labels = write_cifar10(parent, kind)
    (folder / "batches.meta").write_bytes(pickle.dumps(Payload(parent / "written")))
    path = parent / ARCHIVES[kind]
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            content = changes.get(file.stem, file.read_bytes())
            if content is not None:
                member = tarfile.TarInfo(f"{folder.name}/{file.name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{folder.name}/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return path, images, labels


@pytest.mark.parametrize("kind", FORMATS)
def test_archives_are_read_as_downloaded(kind: str, tmp_path: Path) -> None:
    path, images, labels = write_archive(tmp_path, kind)
    for place in (path, tmp_path, str(path)):
        cifar10 = few(place)
        assert np.array_equal(cifar10._train.images, images[:20])
        assert np.array_equal(cifar10._train.labels, labels[:20])
        assert np.array_equal(cifar10.test.images, images[20:])
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing is unpacked to disk, nothing runs"


def test_incomplete_archives_are_named(tmp_path: Path) -> None:
    path, *_ = write_archive(tmp_path, "binary", data_batch_3=None)
    with pytest.raises(
        ValueError, match=r"binary\.tar\.gz must hold .*six batches of CIFAR-10, data_batch_3\.bin is missing"
    ):
        few(path)
    path, *_ = write_archive(tmp_path, "binary", data_batch_3=bytes(3072))
    with pytest.raises(ValueError, match=r"binary\.tar\.gz/data_batch_3\.bin cannot be read .*3072 bytes"):
        few(path)
    path, *_ = write_archive(tmp_path, "python 3", data_batch_3=pickle.dumps(Payload(tmp_path / "written")))
    with pytest.raises(ValueError, match=r"python\.tar\.gz/data_batch_3 cannot be read .*exec is refused"):
        few(path)
    assert not (tmp_path / "written").exists()
    content = path.read_bytes()
    for broken in (b"not an archive", content[: len(content) // 2], b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"python\.tar\.gz .*(download it again|data_batch_1 is missing)"):
            few(path)


# The official number of images


def test_official_batches_have_10000_images(tmp_path: Path) -> None:
    folder, *_ = write_cifar10(tmp_path)
    with pytest.raises(ValueError, match=r"data_batch_1\.bin must hold the 10,000 images of a CIFAR-10 batch, got 4"):
        load_cifar10(folder)
    for name in CIFAR_FILES:
        with (folder / f"{name}.bin").open("wb") as file:
            file.truncate(10_000 * 3073)  # zeros, which take no space
    assert len(open_source(str(tmp_path), size=32).test) == 10_000
    with (folder / "test_batch.bin").open("ab") as file:
        file.truncate(9_999 * 3073)
    with pytest.raises(ValueError, match=r"test_batch\.bin must hold the 10,000 images .*got 9,999"):
        open_source(str(tmp_path))
