"""Image files to sources: folders, the official CIFAR-10 batches, ``.npz`` files. Nothing in a file is executed."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.checks import positive_int
from nflows_woodbury.data import ArraySource, ImageSet, ImageSource, PhotoSource, extra

__all__ = ["load_cifar10", "load_folder", "load_npz", "open_source"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_CIFAR_NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ADMITTED = {  # what a pickled array asks for, by the names of numpy 1 (and Python 2) and of numpy 2
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_NPZ_LAYOUTS = (  # (images, labels) of each part; the labels are optional
    [("train", "train_labels"), ("test", "test_labels")],
    *([(images, labels)] for images in ("x", "images") for labels in ("y", "labels")),
)


def load_folder(path: str | Path, size: int | None = None) -> ArraySource:
    """Return the images (png, jpg, jpeg, webp, bmp; other files do not count) in and below a folder, as RGB.

    Subfolders ``train`` and ``test`` or ``val`` are the split (of all three, ``val`` is the validation set);
    without them a tenth becomes the test set. Two or more class folders, with every image exactly one level
    down in its split, become labels in the order of their names. Alpha is dropped. With ``size`` each image
    is resized and centre-cropped to ``size`` x ``size``, without it all must be squares of one size.
    ValueError for others, for too few images, images beside the split and unreadable ones, FileNotFoundError
    for no folder.
    """
    root, size = Path(path), None if size is None else positive_int("size", size)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    if len(files) < 2:
        raise ValueError(f"{root} must hold two or more images ({', '.join(_SUFFIXES)}), got {len(files)}")
    places = [file.relative_to(root).parts for file in files]
    tops = np.array([place[0] for place in places])
    parts = set(tops.tolist())
    split = "train" in parts and not parts.isdisjoint({"test", "val"})
    if split and (stray := parts - {"train", "test", "val"}):
        raise ValueError(f"{root / min(stray)} must be in train, test or val, the split of {root}")
    inner = [place[1:] if split else place for place in places]
    classes, labels = np.unique([place[0] for place in inner], return_inverse=True)
    labelled = len(classes) > 1 and all(len(place) == 2 for place in inner)
    whole = ImageSet(_read_images(files, size), torch.from_numpy(labels) if labelled else None)
    name = root.resolve().name
    if not split:
        return ArraySource(whole, name=name)
    sets = {part: whole.take(np.flatnonzero(tops == part)) for part in parts}
    test = sets["test" if "test" in sets else "val"]
    return ArraySource(sets["train"], test, name=name, validation=sets["val"] if len(sets) == 3 else None)


def _read_images(files: Sequence[Path], size: int | None) -> torch.Tensor:
    """Return the images, uint8 (N, 3, s, s); ValueError for one that is no square of the first one's size."""
    images: list[torch.Tensor] = []
    for file in files:
        images.append(_read_image(file, size))
        side, (_, height, width) = images[0].shape[2], images[-1].shape
        if (height, width) != (side, side):
            wanted = f"a {side}x{side} square like the first image; give a size to resize and crop all to"
            raise ValueError(f"{file} has {width}x{height} pixels, it must be {wanted}")
    return torch.stack(images)


def _read_image(file: Path, size: int | None) -> torch.Tensor:
    """Return one image, uint8 (3, h, w), or resized and centre-cropped (3, size, size)."""
    pil, ops = extra("PIL.Image"), extra("PIL.ImageOps")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            with pil.open(file) as opened:
                if opened.mode[0] in "IF":
                    raise ValueError(f"its mode {opened.mode} has more than 8 bits a channel")
                picture = opened.convert("RGB")
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    if size is not None:
        picture = ops.fit(picture, (size, size), pil.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).movedim(2, 0)


def load_cifar10(path: str | Path) -> ArraySource:
    """Return CIFAR-10 from its official python or binary batches, in the folder or its official subfolder.

    Nothing in a python batch is executed. FileNotFoundError for a missing batch, ValueError for a broken one.
    """
    files = _cifar10_files(Path(path))
    if not files:
        raise FileNotFoundError(f"{path} holds none of {', '.join(_CIFAR_NAMES)}, with or without .bin")
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing, one of the six batches of CIFAR-10")
    *batches, test = (_read_cifar10(file) for file in files)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    train = ImageSet(torch.cat([batch.images for batch in batches]), torch.cat(labels))
    return ArraySource(train, test, name="cifar10")


def _cifar10_files(folder: Path) -> list[Path]:
    """Return the paths of the six batches in the first format of which there is any, or an empty list."""
    for place in (folder, folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"):
        for suffix in _CIFAR_READERS:
            files = [place / f"{name}{suffix}" for name in _CIFAR_NAMES]
            if any(file.is_file() for file in files):
                return files
    return []


def _read_cifar10(file: Path) -> ImageSet:
    try:
        pixels, labels = _CIFAR_READERS[file.suffix](file)
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{file} cannot be read as a CIFAR-10 batch: {error}") from error
    if pixels.shape[1:] != (3072,):
        raise ValueError(f"{file} must hold rows of 3072 pixels, got data of shape {pixels.shape}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    batch = _image_set(f"{file}: data", images, "labels", labels)
    if labels.max() > 9:
        raise ValueError(f"{file} must hold labels from 0 to 9, got {labels.max()}")
    return batch


def _read_binary(file: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    data = np.fromfile(file, np.uint8)
    if data.size % 3073:
        raise ValueError(f"{data.size} bytes are no whole number of records of 1 label and 3072 pixels")
    return data.reshape(-1, 3073)[:, 1:], data[::3073]


class _ArrayUnpickler(pickle.Unpickler):
    """Admits plain containers and numpy arrays and nothing else, so that a crafted file runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is refused")
        return _ADMITTED[module, name]


def _read_pickle(file: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    with file.open("rb") as opened:
        batch = _ArrayUnpickler(opened, encoding="latin1").load()
    return np.asarray(batch["data"]), np.asarray(batch["labels"])


_CIFAR_READERS = {"": _read_pickle, ".bin": _read_binary}


def load_npz(path: str | Path) -> ArraySource:
    """Return the images of an ``.npz`` archive: uint8 (N, h, w, 3), or grey (N, h, w) or (N, h, w, 1).

    Its arrays are ``train`` and ``test``, with ``train_labels`` and ``test_labels`` if any, or ``x`` or
    ``images``, with ``y`` or ``labels`` if any, of which a tenth becomes the test set; others do not count.
    FileNotFoundError where there is no file, ValueError for anything else.
    """
    known = {key for layout in _NPZ_LAYOUTS for pair in layout for key in pair}
    with Path(path).open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            arrays = {key: archive[key] for key in archive.files if key in known}
        except Exception as error:  # numpy and zipfile raise nearly anything on a broken archive
            raise ValueError(f"{path} cannot be read as an .npz archive: {error}") from error
    for layout in _NPZ_LAYOUTS:
        if arrays.keys() in ({pair[0] for pair in layout}, {key for pair in layout for key in pair}):
            sets = [_image_set(f"{path}: {x}", arrays[x], y, arrays.get(y)) for x, y in layout]
            return ArraySource(*sets, name=Path(path).stem)
    raise ValueError(
        f"{path} must hold train and test (and train_labels and test_labels, if any), or x or images "
        f"(and y or labels, if any), got {', '.join(archive.files) or 'no arrays'}"
    )


def _image_set(key: str, images: npt.NDArray[Any], labels_key: str, labels: npt.NDArray[Any] | None) -> ImageSet:
    """Return uint8 (N, h, w), (N, h, w, 1) or (N, h, w, 3) images, and integer labels (N,), as a set."""
    if images.dtype != np.uint8:
        numeric = images.size and images.dtype.kind in "biuf"
        got = f"{images.dtype} from {images.min()} to {images.max()}" if numeric else f"{images.dtype}"
        hint = "floats in [0, 1] become so by (x * 255).round().astype('uint8')"
        raise ValueError(f"{key} must be uint8 from 0 to 255, got {got}; {hint}")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise ValueError(f"{key} must have shape (N, h, w), (N, h, w, 1) or (N, h, w, 3), got {images.shape}")
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if labels is None:
        return ImageSet(pixels)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),) or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"{key} needs {len(images)} integers from 0 as {labels_key}, got {got}")
    return ImageSet(pixels, torch.from_numpy(labels.astype(np.int64)))


def open_source(spec: str = "photos", *, size: int | None = None) -> ImageSource:
    """Return the source that ``spec`` names: ``photos``, an ``.npz`` file, a folder of CIFAR-10 or of images.

    ``size`` is the side of the images: 32 unless given for photos; images in a folder are resized to it.
    ValueError where others differ from it and for other files, FileNotFoundError for a path not there.
    """
    if spec == "photos":
        return PhotoSource(32 if size is None else size)
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"{spec!r} is not there; give 'photos', an .npz file or a folder of images")
    if path.is_file() and path.suffix != ".npz":
        raise ValueError(f"spec must be 'photos', an .npz file or a folder of images, got the file {spec!r}")
    if path.is_dir() and not _cifar10_files(path):
        return load_folder(path, size)
    source = load_npz(path) if path.is_file() else load_cifar10(path)
    if size is not None and source.shape[1:] != (size, size):
        raise ValueError(f"size must be None or as in {spec!r}, where it is {source.shape[1:]}, got {size}")
    return source
