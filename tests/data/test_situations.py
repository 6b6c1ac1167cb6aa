"""What people have on disk, one situation a line: which images count, what becomes of them, and what is said.

A situation is a folder, written as the names of its files. An exclamation mark before a name: the file must not count,
though it is a good image wherever its name is one's. ``name=kind`` takes the content from ``CONTENTS``.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource

CORNER = np.full((8, 8, 3), 40, np.uint8)
CORNER[:2, :4] = 250  # wider than high, so that all eight ways to turn it differ


def saved(image: Any, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def raw_png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A colour PNG that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(way: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x112] = way
    options = {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    return saved(CORNER, kind, exif=exif, **options)


def palette(transparent: bool) -> bytes:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    return saved(picture, transparency=1) if transparent else saved(picture)


def frames(kind: str) -> bytes:
    first, second = (Image.new("RGB", (8, 8), (value,) * 3) for value in (200, 100))
    return saved(first, kind, save_all=True, append_images=[second])


CONTENTS: dict[str, Callable[[], bytes]] = {
    "junk": lambda: b"no image",
    "empty": lambda: b"",
    "cut": lambda: saved(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8))[:-40],
    "png": lambda: saved(CORNER),
    "jpeg": lambda: saved(Image.new("RGB", (8, 8), (250, 250, 250)), "jpeg"),
    "wide": lambda: saved(np.full((8, 12, 3), 90, np.uint8)),
    "photo": lambda: saved(np.full((240, 320, 3), 90, np.uint8)),
    "bomb": lambda: raw_png(20_000, 15_000, 8, b""),
    "clear": lambda: saved(np.zeros((8, 8, 4), np.uint8)),
    "half": lambda: saved(Image.new("RGBA", (8, 8), (0, 0, 0, 128))),
    "opaque": lambda: saved(Image.new("RGBA", (8, 8), (0, 0, 0, 255))),
    "la": lambda: saved(Image.new("LA", (8, 8), (0, 0))),
    "grey": lambda: saved(Image.new("L", (8, 8), 77)),
    "grey-clear": lambda: saved(Image.new("L", (8, 8), 77), transparency=77),
    "rgb-clear": lambda: saved(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3)),
    "palette": lambda: palette(False),
    "palette-clear": lambda: palette(True),
    "one": lambda: saved(Image.new("1", (8, 8), 1)),
    "cmyk": lambda: saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "jpeg"),
    "cmyk-tiff": lambda: saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "tiff"),
    "16": lambda: saved(np.full((8, 8), 0x1234, np.uint16)),
    "16-tiff": lambda: saved(np.full((8, 8), 0xFFFF, np.uint16), "tiff"),
    "16-low": lambda: saved(np.full((8, 8), 0x00FF, np.uint16)),
    "16-rgb": lambda: raw_png(8, 8, 16, 8 * (b"\0" + struct.pack(">H", 0x1234) * 24)),
    "32": lambda: saved(np.full((8, 8), 2**20, np.int32), "tiff"),
    "float": lambda: saved(np.full((8, 8), 0.5, np.float32), "tiff"),
    "gif": lambda: frames("gif"),
    "pages": lambda: frames("tiff"),
    "bad-exif": lambda: saved(Image.new("RGB", (8, 8), (9, 9, 9)), exif=b"Exif\0\0junkjunkjunk"),
    **{f"turned{way}-{kind}": lambda way=way, kind=kind: turned(way, kind) for way in range(1, 9) for kind in ("jpeg", "png", "tiff", "webp")},
}  # fmt: skip


def content(name: str, kind: str, number: int) -> bytes:
    suffix = os.path.splitext(name)[1].lower()
    if kind:
        return CONTENTS[kind]()
    if Image.registered_extensions().get(suffix) not in Image.SAVE or suffix in (".pdf", ".h5", ".hdf"):
        return b"text"
    mode = {".pgm": "L", ".pbm": "1", ".msp": "1", ".xbm": "1"}.get(suffix, "RGB")
    picture = Image.new("RGB", (8, 8), (number * 7 % 256, number * 31 % 256, 50)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, Image.registered_extensions()[suffix])
    return buffer.getvalue()


def build(root: Path, files: str) -> tuple[list[str], int]:
    """Write the files; return the names of the images that count, and the number of those that must not."""
    count, others = [], 0
    root.mkdir(parents=True, exist_ok=True)
    for number, word in enumerate(files.split()):
        name, _, kind = word.lstrip("!").partition("=")
        path = root / name.replace("~", " ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, kind, number))
        if word[0] == "!":
            others += 1
        else:
            count.append(name.replace("~", " "))
    return sorted(count), others


def parts(source: ImageSource) -> dict[str, list[str]]:
    training = [name for part in source.training(100) for name in part.names or ()]
    held_out = {part: list(x.names or ()) for part, x in (("test", source.test), ("val", source.validation)) if x}
    return {name: sorted(map(str, names)) for name, names in {"train": training, **held_out}.items()}


PETS = "cats/1.png cats/2.png dogs/1.png dogs/2.png"
THREE = "a.png b.png c.png"
RUN = "!run/checkpoints/last.ckpt !run/log/events !run/samples.png !run/reconstructions.png !run/result.json !run/.lock"

# files, whether what else there is is said with this reason (or any)
COUNTED = {
    # a run is no data
    "a run": (f"{THREE} {RUN}", "6 of a run"),
    "a run in runs": (f"{THREE} {RUN.replace('run/', 'runs/photos-woodbury/')}", "6 of a run"),
    "two runs": (f"{THREE} {RUN} {RUN.replace('run/', 'deep/run2/')}", "12 of a run"),
    "a run that has only begun": (f"{THREE} !run/.lock !run/log/events !run/samples.png", "3 of a run"),
    "a run without its checkpoints": (f"{THREE} !run/result.json !run/log/events !run/samples.png", "3 of a run"),
    "a run beside classes": (f"{PETS} {RUN}", "6 of a run"),
    "a run in a part of a split": (f"train/a.png test/b.png {RUN.replace('run/', 'train/run/')}", "6 of a run"),
    "an early checkpoint": (f"{THREE} !x/checkpoints/step-10.ckpt !x/samples.png", "2 of a run"),
    "a folder called runs": ("a.png runs/b.png runs/c.png", None),
    "a folder called checkpoints": ("checkpoints/b.png checkpoints/c.png checkpoints/d.png", None),
    # hidden, of the system, thumbnails
    "AppleDouble": (f"{THREE} !._a.png !._b.jpg", "2 hidden"),
    "AppleDouble in classes": (f"{PETS} !cats/._1.png !dogs/._1.png", "2 hidden"),
    "a hidden image": (f"{THREE} !.a.png", "1 hidden"),
    "a hidden folder": (f"{THREE} !.old/a.png !.old/older/b.png", "2 hidden"),
    "a repository": (f"{THREE} !.git/HEAD !.gitignore !.gitattributes", "3 hidden"),
    "trash": (f"{THREE} !.Trash-1000/files/a.png", "1 hidden"),
    "a notebook's leftovers": (f"{THREE} !.ipynb_checkpoints/a-checkpoint.png", "1 hidden"),
    "Picasa's originals": (f"{THREE} !.picasaoriginals/a.png !.picasa.ini", "2 hidden"),
    "thumbnails, hidden": (f"{THREE} !.thumbnails/a.png", "1 hidden"),
    "macOS": (f"{THREE} !.DS_Store !cats/.DS_Store", "2 hidden"),
    "what unzipping leaves": (f"{THREE} !__MACOSX/._a.png !__MACOSX/a.png", "2 of the system"),
    "what unzipping leaves beside classes": (f"{PETS} !__MACOSX/cats/._1.png !__MACOSX/cats/1.png", "2 of the system"),
    "Windows": (f"{THREE} !Thumbs.db !desktop.ini !ehthumbs.db", "3 of the system"),
    "Windows, other case": (f"{THREE} !THUMBS.DB !Desktop.ini", "2 of the system"),
    "a recycle bin": (f"{THREE} !$RECYCLE.BIN/a.png !#recycle/b.png !@Recycle/c.png", "3 of the system"),
    "a volume": (f"{THREE} !System~Volume~Information/a.png !lost+found/b.png", "2 of the system"),
    "Python's": (f"{THREE} !__pycache__/a.png !make.py", "1 of the system"),
    "Synology": (f"{THREE} !@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "1 in folders of thumbnails"),
    "Synology beside classes": (f"{PETS} !cats/@eaDir/1.png !@eaDir/cats/1.jpg", "2 in folders of thumbnails"),
    "QNAP": (f"{THREE} !.@__thumb/a.png !@__thumb/b.png", "1 in folders of thumbnails"),
    "thumbnails": (f"{THREE} !Thumbnails/a.png !thumbs/b.png", "2 in folders of thumbnails"),
    # files that are no images
    "notes": (f"{THREE} !notes.txt !labels.csv !data.json", r"3 without an image \(data.json, \.\.\.\)"),
    "no suffix": (f"{THREE} !README !LICENSE", "2 without an image"),
    "backups and downloads": (f"{THREE} !a.png.bak !b.png.part !c.png.crdownload !a.png~1", "4 without an image"),
    "films and papers": (f"{THREE} !a.mp4 !b.mov !c.pdf !d.mpg", "4 without an image"),
    "formats of phones and cameras": (f"{THREE} !a.HEIC !b.cr2 !c.dng !d.NEF", "4 of formats that Pillow does not read"),
    "drawings": (f"{THREE} !a.svg !b.eps !c.ai", "skipped 3 files: .*1 without an image.*|.*2 of formats"),
    "measurements": (f"{THREE} !a.fits !b.h5 !c.exr", "2 of formats that Pillow does not read here"),
    "all at once": (f"{THREE} {RUN} !._a.png !Thumbs.db !notes.txt !@eaDir/a.png", "skipped 10 files: "),
    # where the images lie
    "one folder below": ("pets/a.png pets/b.png pets/c.png", None),
    "folders of folders": ("a/b/c/d.png a/b/e.png f.png", None),
    "names with blanks and accents": ("my~cat.png größe.png 猫.png", None),
    "names with signs": ("a[1].png b*.png c%20.png d'.png e,f.png", None),
    "names that differ in case": ("a.png A.png b.PNG", None),
    "hundreds of digits": (f"{'1' * 200}.png {'2' * 200}.png b.png", None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "said"), COUNTED.values(), ids=COUNTED)
def test_these_files_count(files: str, said: str | None, tmp_path: Path) -> None:
    expected, others = build(tmp_path / "data", files)
    source = open_source(str(tmp_path / "data"))
    got = parts(source)
    assert sorted(chain.from_iterable(got.values())) == expected
    assert got["train"] and got["test"]
    passed_over = [note for note in source.notes if note.startswith("skipped")]
    if said is None:
        assert source.notes == () and not others
    else:
        assert len(passed_over) == 1 and passed_over[0].startswith(f"skipped {others} file")
        assert re.search(said, passed_over[0])


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_no_unicode_count(tmp_path: Path) -> None:
    expected, _ = build(tmp_path / "data", "a\udcff/1.png a\udcff/2.png b/3.png")
    source = open_source(str(tmp_path / "data"))
    assert sorted(chain.from_iterable(parts(source).values())) == expected
    assert source.class_names == ("a\udcff", "b")
    (tmp_path / "data" / "a\udcff" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        open_source(str(tmp_path / "data"))
    assert str(caught.value).encode()


READ = ["png", "PNG", "Png", "apng", "jpg", "JPG", "jpeg", "JPEG", "jpe", "jfif", "JFIF", "webp", "WebP", "bmp", "dib", "gif",
        "GIF", "tif", "TIF", "tiff", "Tiff", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "tga", "pcx", "sgi", "dds"]  # fmt: skip
READ += ["avif"] * features.check("avif")


@pytest.mark.parametrize("suffix", READ)
def test_what_pillow_reads_is_read(suffix: str, tmp_path: Path) -> None:
    build(tmp_path, f"a.{suffix} b.{suffix} c.png")
    source = open_source(str(tmp_path))
    assert sorted(chain.from_iterable(parts(source).values())) == [f"a.{suffix}", f"b.{suffix}", "c.png"]
    assert source.shape == (3, 8, 8) and source.notes == ()


#: content -> the value of its first pixel, or what is said instead, and what is said
SEEN: dict[str, tuple[tuple[int, int, int] | str, str | None]] = {
    "clear": ((255, 255, 255), "1 image with transparent parts, which are put on white"),
    "half": ((127, 127, 127), "1 image with transparent parts"),
    "opaque": ((0, 0, 0), None),
    "la": ((255, 255, 255), "transparent parts"),
    "grey": ((77, 77, 77), None),
    "grey-clear": ((255, 255, 255), "transparent parts"),
    "rgb-clear": ((255, 255, 255), "transparent parts"),
    "palette": ((10, 200, 30), None),
    "palette-clear": ((255, 255, 255), "transparent parts"),
    "one": ((255, 255, 255), None),
    "cmyk": ((255, 255, 255), None),
    "cmyk-tiff": ((0, 0, 0), None),
    "16": ((0x12,) * 3, "1 image of 16 bits, of which the high byte is kept"),
    "16-tiff": ((0xFF,) * 3, "of 16 bits"),
    "16-low": ((0, 0, 0), "of 16 bits"),
    "16-rgb": ((0x12,) * 3, "of 16 bits"),
    "gif": ((200, 200, 200), "1 image with several frames or pages, of which the first is taken"),
    "pages": ((200, 200, 200), "several frames or pages"),
    "bad-exif": ((9, 9, 9), "1 image with broken EXIF, which are taken as they lie"),
    "jpeg": ((250, 250, 250), None),  # in a file called .png
    "32": ("its mode I has more than 16 bits a channel", None),
    "float": ("its mode F has more than 16 bits a channel", None),
    "junk": (r"a\.png cannot be read as an image: cannot identify its format; skip_broken leaves it out", None),
    "empty": ("cannot identify its format", None),
    "cut": (r"a\.png cannot be read as an image: ", None),
    "bomb": (r"a\.png cannot be read as an image: .*300000000 pixels.*decompression bomb", None),
}


@pytest.mark.parametrize("kind", SEEN)
def test_each_kind_of_image_is_seen_as_people_see_it(kind: str, tmp_path: Path) -> None:
    seen, said = SEEN[kind]
    build(tmp_path, f"train/a.png={kind} test/b.png")
    if isinstance(seen, str):
        with pytest.raises(ValueError, match=seen):
            open_source(str(tmp_path))
        return
    source = open_source(str(tmp_path))
    pixel = source.batch(0, 1, seed=0).images[0, :, 0, 0]
    assert (pixel - torch.tensor(seen)).abs().max() <= 1
    assert len(source.notes) == (said is not None)
    assert said is None or said in source.notes[0]


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("way", range(1, 9))
def test_images_are_turned_as_their_exif_says(way: int, kind: str, tmp_path: Path) -> None:
    build(tmp_path, f"train/a.png=turned{way}-{kind} test/b.png")
    upright = {
        1: CORNER, 2: CORNER[:, ::-1], 3: CORNER[::-1, ::-1], 4: CORNER[::-1], 5: CORNER.swapaxes(0, 1),
        6: np.rot90(CORNER, -1), 7: np.rot90(CORNER, 2).swapaxes(0, 1), 8: np.rot90(CORNER),
    }[way]  # fmt: skip
    got = open_source(str(tmp_path)).batch(0, 1, seed=0).images[0].movedim(0, 2).numpy()
    assert np.abs(got.astype(int) - upright).max() <= 3


#: files, images in (train, test, validation), classes, what is said
LAID_OUT: dict[str, tuple[str, tuple[int, int, int], tuple[str, ...] | None, str | None]] = {
    "train and test": ("train/a.png train/b.png test/c.png", (2, 1, 0), None, None),
    "Train and Test": ("Train/a.png Train/b.png Test/c.png", (2, 1, 0), None, None),
    "TRAIN and TEST": ("TRAIN/a.png TRAIN/b.png TEST/c.png", (2, 1, 0), None, None),
    "training and testing": ("training/a.png training/b.png testing/c.png", (2, 1, 0), None, None),
    "train and val": ("train/a.png train/b.png val/c.png", (2, 1, 0), None, None),
    "train and valid": ("train/a.png train/b.png valid/c.png", (2, 1, 0), None, None),
    "train and validation": ("train/a.png train/b.png validation/c.png", (2, 1, 0), None, None),
    "all three": ("train/a.png train/b.png val/c.png test/d.png test/e.png", (2, 2, 1), None, None),
    "all three, mixed": ("Training/a.png Validation/c.png TEST/d.png TEST/e.png", (1, 2, 1), None, None),
    "a split in a folder of its own": ("pets/train/a.png pets/train/b.png pets/test/c.png", (2, 1, 0), None, None),
    "a split with classes": (
        "train/dogs/a.png train/cats/b.png test/cats/c.png", (2, 1, 0), ("cats", "dogs"), None),
    "a split with classes in other cases": (
        "Train/dogs/a.png Train/cats/b.png Valid/cats/c.png", (2, 1, 0), ("cats", "dogs"), None),
    "a split with classes deeper": (
        "train/images/dogs/a.png train/images/cats/b.png test/images/cats/c.png", (2, 1, 0), ("cats", "dogs"), None),
    "a class without training images": (
        "train/dogs/a.png train/cats/b.png test/owls/c.png", (2, 1, 0), ("cats", "dogs", "owls"),
        "no training images are in owls"),
    "train alone": ("train/a.png train/b.png train/c.png", (2, 1, 0), None, "train looks like a part of a split, but there is no test or val"),
    "train alone with classes": (
        "train/cats/a.png train/dogs/b.png train/dogs/c.png", (2, 1, 0), ("cats", "dogs"), "train looks like a part of a split"),
    "train and something else": ("train/a.png train/b.png more/c.png", (2, 1, 0), ("more", "train"), "train looks like a part of a split"),
    "test alone": ("test/a.png test/b.png test/c.png", (2, 1, 0), None, "test looks like a part of a split, but there is no train"),
    "test and val without train": (
        "test/a.png test/b.png val/c.png", (2, 1, 0), ("test", "val"), "test and val looks like a part of a split, but there is no train"),
    "splits in classes": (
        "cats/train/a.png cats/test/b.png dogs/train/c.png", (2, 1, 0), None, "folders train and test count at the top only"),
    "classes": ("dogs/a.png cats/b.png cats/c.png", (2, 1, 0), ("cats", "dogs"), None),
    "classes that are numbers": ("10/a.png 2/b.png 1/c.png", (2, 1, 0), ("1", "2", "10"), None),
    "classes with numbers": ("kind10/a.png kind9/b.png Kind1/c.png", (2, 1, 0), ("Kind1", "kind9", "kind10"), None),
    "classes with leading zeros": ("010/a.png 02/b.png 1/c.png", (2, 1, 0), ("1", "02", "010"), None),
    "classes of both cases": ("b/a.png A/b.png C/c.png", (2, 1, 0), ("A", "b", "C"), None),
    "classes with blanks and accents": ("große~Katzen/a.png 猫/b.png é/c.png", (2, 1, 0), ("große Katzen", "é", "猫"), None),
    "classes in a folder": ("PetImages/Cat/a.png PetImages/Dog/b.png PetImages/Dog/c.png", (2, 1, 0), ("Cat", "Dog"), None),
    "classes called like parts of words": ("trainers/a.png testers/b.png values/c.png", (2, 1, 0), ("testers", "trainers", "values"), None),
    "one class": ("cats/a.png cats/b.png cats/c.png", (2, 1, 0), None, None),
    "an image beside classes": ("cats/a.png dogs/b.png c.png", (2, 1, 0), None, "1 of 3 images lie elsewhere than one folder down, such as c.png"),
    "classes of unequal depth": ("cats/a.png dogs/big/b.png dogs/big/c.png", (2, 1, 0), None, "2 of 3 images lie elsewhere than one folder down"),
    "two images": ("a.png b.png", (1, 1, 0), None, None),
    "three images": (THREE, (2, 1, 0), None, None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "counts", "classes", "said"), LAID_OUT.values(), ids=LAID_OUT)
def test_folders_mean_splits_and_classes(
    files: str, counts: tuple[int, int, int], classes: tuple[str, ...] | None, said: str | None, tmp_path: Path
) -> None:
    build(tmp_path / "data", files)
    source = open_source(str(tmp_path / "data"))
    got = parts(source)
    assert tuple(len(got.get(part, ())) for part in ("train", "test", "val")) == counts
    assert source.class_names == classes
    assert source.num_classes == (None if classes is None else len(classes))
    for images in [*source.training(10), source.test]:
        for name, label in zip(
            images.names or (), () if images.labels is None else images.labels, strict=classes is not None
        ):
            assert classes is not None and f"/{classes[label]}/" in f"/{name}"
    assert len(source.notes) == (said is not None)
    assert said is None or said in source.notes[0]


REFUSED = {
    "no images": ("notes.txt", "must hold images .* got 0; skipped 1 file: 1 without an image"),
    "hidden images only": (".a.png .b.png", "must hold images .* got 0; skipped 2 files: 2 hidden"),
    "one image": ("a.png", "must hold two or more images .* got 1"),
    "a run": ("a.png b.png checkpoints/last.ckpt", "is the folder of a run, whose pictures are no data"),
    "a run without checkpoints": ("a.png b.png log/events result.json", "is the folder of a run"),
    "images beside the split": ("train/a.png test/b.png c.png", r"c\.png must be in train, test or val"),
    "folders beside the split": ("Train/a.png Test/b.png more/c.png", "more must be in train, test or val"),
    "two folders for training": ("train/a.png Train/b.png test/c.png", "must hold one folder train, got Train and train"),
    "two folders for validation": ("train/a.png val/b.png valid/c.png", "must hold one folder val, got val and valid"),
    "images of several sizes": ("a.png b.png=wide", r"b\.png has 12x8 pixels, it must be of 8x8 .*give a size"),
    "photographs without a size": ("a.png=photo b.png=photo", r"a\.png has 320x240 pixels, many for a flow; give a size"),
    "one broken image": (f"{THREE} d.png=junk", r"d\.png cannot be read as an image: .*skip_broken leaves it out"),
    "the first image broken": ("a.png=junk b.png c.png", r"a\.png cannot be read as an image"),
    "three broken images": (
        "a.png b.png=junk c.png=cut d.png=empty e.png", r"3 images cannot be read: .*b\.png .*c\.png .*d\.png .*leaves them out"),
    "twelve broken images": (
        f"a.png {' '.join(f'{i:02}.png=junk' for i in range(12))}", r"12 images cannot be read: .*09\.png .*; and 2 more; skip_broken"),
    "all images broken": ("a.png=junk b.png=empty", "2 images cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_these_folders_are_refused_in_one_sentence(files: str, message: str, tmp_path: Path) -> None:
    build(tmp_path / "data", files)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(tmp_path / "data"))
    assert "\n" not in str(caught.value)
