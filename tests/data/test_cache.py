"""Decoded images are kept: what makes them anew, and killed, crowded and full places."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from imagefiles import nhwc, pixels, trained_on, write_image

from nflows_woodbury.data import cache, folder
from nflows_woodbury.data.opening import open_source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(12):
        write_image(tmp_path / "images" / f"{i:02}.png")
    return tmp_path / "images"


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each set of images that is decoded to its end."""
    ends: list[int] = []
    decoded = folder.decoded

    def counted(*args: object) -> Iterator[np.ndarray]:
        yield from decoded(*args)
        ends.append(1)

    monkeypatch.setattr(folder, "decoded", counted)
    return ends


def files(where: Path) -> list[Path]:
    return sorted(where.iterdir()) if where.exists() else []


def test_images_are_decoded_once(images: Path, tmp_path: Path, decodings: list[int]) -> None:
    kept = tmp_path / "a" / "kept"
    plain = open_source(str(images))
    first = open_source(str(images), cache=kept)
    again = open_source(str(images), cache=str(kept))
    assert len(decodings) == 2, "once for the plain source, once for the cache"
    for source in (first, again):
        assert np.array_equal(nhwc(trained_on(source)), nhwc(trained_on(plain)))
        assert np.array_equal(nhwc(source.test), nhwc(plain.test))
    (file,) = files(kept)
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_mode & 0o777 == 0o700
    array = np.load(file)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((12, 3, 4, 4), np.uint8, True)


def test_changes_make_another_cache(images: Path, tmp_path: Path, decodings: list[int]) -> None:
    kept = tmp_path / "kept"

    def count(**options: int) -> int:
        open_source(str(images), cache=kept, **options)
        assert len(files(kept)) == len(decodings)
        return len(decodings)

    assert count() == 1
    assert count(size=2) == 2
    assert count(test_images=5) == 2, "the same pixels"
    write_image(images / "new.png")
    assert count() == 3
    write_image(images / "05.png")  # of the same name, and the same size or not
    os.utime(images / "05.png", ns=(1, 1))
    assert count() == 4
    (images / "new.png").rename(images / "renamed.png")
    assert count() == 5
    (images / "renamed.png").unlink()
    os.utime(images / "05.png", ns=(2, 2))
    assert count() == 6
    assert count() == 6


def test_a_cache_that_does_not_fit_is_made_anew(images: Path, tmp_path: Path, decodings: list[int]) -> None:
    kept = tmp_path / "kept"
    expected = nhwc(open_source(str(images), cache=kept).test)
    (file,) = files(kept)
    whole = file.read_bytes()
    np.save(tmp_path / "other.npy", np.zeros((12, 3, 4, 5), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((12, 3, 4, 4), np.float32))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.load(file)))
    np.save(tmp_path / "pickled.npy", np.array([None] * 12), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", x=np.load(file))
    others = [(tmp_path / name).read_bytes() for name in ("other.npy", "float.npy", "fortran.npy", "pickled.npy")]
    others.append((tmp_path / "archive.npz").read_bytes())
    for number, content in enumerate((whole[:-1], whole + b"0", b"", b"nonsense", *others), start=2):
        file.write_bytes(content)
        assert np.array_equal(nhwc(open_source(str(images), cache=kept).test), expected)
        assert len(decodings) == number
        assert file.read_bytes() == whole


def test_few_images_are_kept_in_memory_and_many_in_the_users_cache(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_source(str(images))
    assert files(tmp_path / "xdg") == []
    many = tmp_path / "many.npy"
    np.save(many, np.zeros((cache.MIN_CACHED, 4, 4), np.uint8))
    with caplog.at_level(logging.INFO, "nflows_woodbury"):
        assert open_source(str(many), size=2).shape == (1, 2, 2)
    (file,) = files(tmp_path / "xdg" / "nflows-woodbury")
    assert f"decoding 1,000 images, once, into {file}" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its standard
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "nflows-woodbury"


def test_a_broken_image_leaves_nothing(images: Path, tmp_path: Path) -> None:
    (images / "11.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"11\.png cannot be read as an image"):
        open_source(str(images), cache=tmp_path / "kept")
    assert files(tmp_path / "kept") == []


def test_a_place_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError,
        match=r"file must be writable and have room for .* GB of decoded images: .*cache or \$XDG_CACHE_HOME names",
    ):
        open_source(str(images), cache=tmp_path / "file")


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OSError, match=r"there is no home to keep decoded images in; .*\$XDG_CACHE_HOME names a folder"):
        cache.decode_once([], (cache.MIN_CACHED, 3, 4, 4), ["a test"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_private", lambda path, flags: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="No space left on device"):
        open_source(str(images), cache=tmp_path / "kept")
    assert files(tmp_path / "kept") == []


def test_a_killed_run_does_no_harm(images: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = f"""
import os
from nflows_woodbury.data import folder
from nflows_woodbury.data.opening import open_source
decoded = folder.decoded
def dying(*args):
    for number, image in enumerate(decoded(*args)):
        if number == 6:
            os._exit(9)
        yield image
folder.decoded = dying
open_source({str(images)!r}, cache={str(kept)!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    (left,) = files(kept)
    assert left.suffix != ".npy"
    expected = nhwc(open_source(str(images)).test)
    assert np.array_equal(nhwc(open_source(str(images), cache=kept).test), expected)
    (file,) = files(kept)
    assert file.suffix == ".npy"


def build(images: str, kept: str, queue: object) -> None:
    queue.put(open_source(images, cache=kept).test.images.sum().item())  # type: ignore[attr-defined]


def test_processes_may_build_it_at_once(images: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    arguments = (str(images), str(tmp_path / "kept"), queue)
    processes = [context.Process(target=build, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    expected = open_source(str(images)).test.images.sum().item()
    assert [queue.get() for _ in processes] == [expected] * 4
    assert len(files(tmp_path / "kept")) == 1


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = [pixels(3, 4, 4)] * 2
    for images, message in [
        (good[:1], "there must be 2 images, got 1"),
        (good * 2, r"image 2 must be one of uint8 \(2, 3, 4, 4\)"),
        ([pixels(3, 4, 5)], r"image 0 must be one of .*got uint8 \(3, 4, 5\)"),
        ([np.zeros((3, 4, 4))], "got float64"),
    ]:
        for kept in (None, tmp_path):
            with pytest.raises(ValueError, match=message):
                cache.decode_once(images, (2, 3, 4, 4), ["a test"], kept)
    assert files(tmp_path) == []
    assert torch.equal(cache.decode_once(good, (2, 3, 4, 4), ["a test"]), torch.from_numpy(np.stack(good)))
