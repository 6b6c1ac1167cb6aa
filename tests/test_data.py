"""Image sources: batches are pure functions, splits are disjoint, broken and crafted files are refused."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nflows_woodbury import data
from nflows_woodbury.data import ArraySource, ImageSet, PhotoSource
from nflows_woodbury.loading import load_cifar10, load_folder, load_npz, open_source

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PHOTO_SHAPES = {"astronaut": (512, 512), "coffee": (400, 600), "cat": (300, 451), "rocket": (427, 640)}
rng = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return rng.integers(256, size=shape, dtype=np.uint8)


def numbered(count: int, start: int = 0) -> ImageSet:
    """Images of one pixel and labels that are both their own number, below 256."""
    numbers = torch.arange(start, start + count)
    return ImageSet(numbers.to(torch.uint8).view(-1, 1, 1, 1), numbers)


def source(count: int = 20, **kwargs: Any) -> ArraySource:
    return ArraySource(numbered(count), numbered(5, start=200), **{"validation_size": 0, **kwargs})


def drawn(images: ImageSet) -> list[int]:
    return images.images.flatten().tolist()


# Sets


def test_image_set_refuses_other_dtypes_and_labels() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        ImageSet(images.float())
    with pytest.raises(ValueError, match="shape"):
        ImageSet(images[0])
    with pytest.raises(TypeError, match=r"labels must be int64, got torch\.int32"):
        ImageSet(images, torch.zeros(3, dtype=torch.int32))
    for labels in (torch.zeros(2, dtype=torch.int64), torch.tensor([0, -1, 0])):
        with pytest.raises(ValueError, match="labels must be 3 integers from 0"):
            ImageSet(images, labels)


# Batches


@pytest.fixture(params=[source, lambda: PhotoSource(8)], ids=["array", "photos"])
def any_source(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_batch_is_a_function_of_its_arguments_only(any_source: data.ImageSource) -> None:
    first = any_source.batch(7, 6, seed=3).images
    for step, size, seed in [(0, 6, 3), (900, 5, 4), (7, 6, 4)]:
        assert not torch.equal(any_source.batch(step, size, seed=seed).images[:5], first[:5])
    assert torch.equal(any_source.batch(7, 6, seed=3).images, first)
    assert torch.equal(pickle.loads(pickle.dumps(any_source)).batch(7, 6, seed=3).images, first)
    assert first.dtype == torch.uint8
    assert first.shape == (6, *any_source.shape)
    assert first.is_contiguous()


def test_ranks_share_the_global_batch(any_source: data.ImageSource) -> None:
    for step in range(4):  # step 1 of the array straddles epochs
        parts = [any_source.batch(step, 12, seed=1, rank=rank, world_size=3) for rank in range(3)]
        assert [len(part) for part in parts] == [4, 4, 4]
        whole = any_source.batch(step, 12, seed=1)
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def test_ranks_are_disjoint_within_an_epoch() -> None:
    parts = [drawn(source(20).batch(0, 20, seed=1, rank=rank, world_size=4)) for rank in range(4)]
    assert sorted(chain.from_iterable(parts)) == list(range(20))


@pytest.mark.parametrize("batch_size", [1, 4, 6, 7, 20])
def test_every_image_comes_once_per_epoch(batch_size: int) -> None:
    images = source(20)
    steps = range(60 // batch_size + 1)
    stream = [number for step in steps for number in drawn(images.batch(step, batch_size, seed=5))]
    epochs = [stream[start : start + 20] for start in (0, 20, 40)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_labels_go_with_their_images() -> None:
    batch = source().batch(2, 9, seed=0)
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == drawn(batch)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer, got 0"),
        ({"batch_size": 21}, ValueError, "batch_size must be at most the 20 training images, got 21"),
        ({"batch_size": 5, "world_size": 2}, ValueError, "batch_size must be a multiple of world_size"),
        ({"step": -1}, ValueError, "step must be an integer from 0, got -1"),
        ({"step": 1.0}, TypeError, "step must be an integer from 0, got 1.0"),
        ({"seed": True}, TypeError, "seed must be an integer from 0, got True"),
        ({"rank": 2, "world_size": 2}, ValueError, r"rank must be below world_size \(2\), got 2"),
        ({"world_size": 0}, ValueError, "world_size must be a positive integer, got 0"),
    ],
    ids=str,
)
def test_batch_names_the_argument_that_is_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"step": 0, "batch_size": 4, "seed": 0, **change}
    with pytest.raises(error, match=message):
        source().batch(**arguments)


# Images in memory


def test_validation_is_held_out_the_same_for_every_run() -> None:
    images = source(200, validation_size=None)
    assert images.validation is not None
    held_out = drawn(images.validation)
    assert len(held_out) == 10
    assert drawn(source(200, validation_size=10).validation) == held_out
    for seed in range(3):
        assert sorted(drawn(images.batch(0, 190, seed=seed)) + held_out) == list(range(200))


def test_validation_may_be_given_or_left_out() -> None:
    assert source(19, validation_size=None).validation is None
    given = numbered(3, start=100)
    assert source(validation=given, validation_size=None).validation is given
    assert sorted(drawn(source(validation=given).batch(0, 20, seed=0))) == list(range(20))
    with pytest.raises(ValueError, match="validation_size must be below 1, as validation is given, got 2"):
        source(validation=given, validation_size=2)
    with pytest.raises(ValueError, match=r"validation_size must be below 20, the number of .*got 20"):
        source(validation_size=20)
    with pytest.raises(ValueError, match="validation_size must be an integer from 0, got -1"):
        source(validation_size=-1)


def test_default_validation_has_at_most_1000_images() -> None:
    images = ImageSet(torch.zeros(30_000, 1, 1, 1, dtype=torch.uint8))
    assert len(ArraySource(images, images).validation or ()) == 1000


def test_attributes_follow_from_the_sets() -> None:
    images = ArraySource(ImageSet(torch.zeros(3, 1, 4, 6, dtype=torch.uint8)), name="grey")
    assert (images.name, images.shape, images.num_classes) == ("grey", (1, 4, 6), None)
    assert (len(images.test), images.validation) == (1, None)
    assert source().num_classes == 205


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 2])], ids=["unlabelled", "other shape"])
def test_sets_must_be_alike(labels: torch.Tensor | None) -> None:
    side = 1 if labels is None else 2
    other = ImageSet(torch.zeros(2, 1, side, side, dtype=torch.uint8), labels)
    for sets in [(numbered(3), other), (numbered(3), numbered(0)), (numbered(1),)]:
        with pytest.raises(ValueError, match=r"must be alike in shape and labels, got \("):
            ArraySource(*sets)


# Photographs


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos whose first channel marks the right quarter, and whose second is the photo's number."""
    import skimage.data

    for number, (name, shape) in enumerate(PHOTO_SHAPES.items()):
        photo = np.zeros((*shape, 3), np.uint8)
        photo[:, shape[1] * 3 // 4 :, 0] = 255
        photo[:, :, 1] = number
        monkeypatch.setattr(skimage.data, name, lambda photo=photo: photo)


@pytest.mark.usefixtures("columns")
def test_train_crops_never_touch_the_right_quarter() -> None:
    photos = PhotoSource(32)
    train = torch.cat([photos.batch(step, 500, seed=0).images for step in range(4)])
    assert (train[:, 0] == 0).all()
    assert (photos.test.images[:, 0] == 255).all()
    for images in (train, photos.test.images):
        seen = images[:, 1].flatten(1).unique(dim=1)
        assert seen.shape[1] == 1, "a crop lies in one photo"
        assert seen.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("columns")
def test_crops_are_uniform_over_the_positions_of_all_photos() -> None:
    photos = PhotoSource(32)
    numbers = torch.cat([photos.batch(step, 1000, seed=1).images[:, 1, 0, 0] for step in range(10)])
    positions = [(h - 31) * (w * 3 // 4 - 31) for h, w in PHOTO_SHAPES.values()]
    expected = torch.tensor(positions) / sum(positions)
    assert (numbers.long().bincount() / len(numbers) - expected).abs().max() < 0.02


def test_every_crop_number_is_one_crop() -> None:
    panels = [torch.from_numpy(pixels(3, 6, 5)), torch.from_numpy(pixels(3, 4, 7))]
    places = [(x, i, j) for x in panels for i in range(x.shape[1] - 2) for j in range(x.shape[2] - 2)]
    expected = [panel[:, row : row + 3, column : column + 3] for panel, row, column in places]
    crops = data._crops(panels, 3, np.arange(len(expected)))
    assert torch.equal(crops.images, torch.stack(expected))


def test_photos_have_a_fixed_test_set_and_no_labels() -> None:
    photos = PhotoSource()
    assert (photos.name, photos.shape) == ("photos", (3, 32, 32))
    assert (photos.num_classes, photos.validation) == (None, None)
    assert photos.test.images.shape == (512, 3, 32, 32)
    assert photos.test.labels is None
    assert torch.equal(photos.test.images, PhotoSource(32).test.images)
    assert PhotoSource(113).batch(0, 2, seed=0).images.shape == (2, 3, 113, 113)


def test_photo_size_must_fit() -> None:
    with pytest.raises(ValueError, match=r"size must be at most 113 .*got 114"):
        PhotoSource(114)
    with pytest.raises(TypeError, match="size must be a positive integer"):
        PhotoSource(8.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "call"),
    [("skimage.data", lambda folder: PhotoSource()), ("PIL.Image", lambda folder: load_folder(folder))],
    ids=["photos", "folder"],
)
def test_missing_extras_say_how_to_get_them(
    module: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is missing: pip install nflows-woodbury\[train\]"):
        call(tmp_path)


def test_import_needs_no_extras() -> None:
    block = "import sys; sys.modules.update(PIL=None, skimage=None)"
    code = f"{block}; import nflows_woodbury.data, nflows_woodbury.loading"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Folders of images


def write_image(path: Path, array: np.ndarray | None = None) -> np.ndarray:
    from PIL import Image

    array = pixels(4, 4, 3) if array is None else array
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return array


def nhwc(images: ImageSet) -> np.ndarray:
    return images.images.movedim(1, -1).numpy()


def test_folder_is_read_recursively_in_order(tmp_path: Path) -> None:
    names = ["a.png", "b.bmp", "c/d.webp", "c/e/f.PNG", *(f"g{i:02}.png" for i in range(16))]
    arrays = np.stack([write_image(tmp_path / name) for name in names])
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_folder(tmp_path)
    assert (images.name, images.shape, images.num_classes) == (tmp_path.name, (3, 4, 4), None)
    assert (len(images.test), images.validation) == (2, None)
    kept, tenth = data._hold_out(20, 2)
    assert np.array_equal(nhwc(images._train), arrays[kept])
    assert np.array_equal(nhwc(images.test), arrays[tenth])


def test_folder_split_and_class_folders(tmp_path: Path) -> None:
    for name in ["train/dog/1.png", "train/cat/1.png", "train/cat/2.png", "test/dog/3.png", "test/cat/3.png"]:
        write_image(tmp_path / name)
    images = load_folder(tmp_path)
    batch = images.batch(0, 3, seed=0)
    assert images.num_classes == 2
    assert batch.labels is not None
    assert images.test.labels is not None
    assert sorted(batch.labels.tolist()) == [0, 0, 1]
    assert images.test.labels.tolist() == [0, 1]
    write_image(tmp_path / "test/extra.png")
    assert load_folder(tmp_path).num_classes is None, "not every image is in a class folder"


def test_val_stands_in_for_test_or_validates(tmp_path: Path) -> None:
    write_image(tmp_path / "train/1.png")
    val = write_image(tmp_path / "val/1.png")
    assert np.array_equal(nhwc(load_folder(tmp_path).test)[0], val)
    test = write_image(tmp_path / "test/1.png")
    images = load_folder(tmp_path)
    assert np.array_equal(nhwc(images.test)[0], test)
    assert images.validation is not None
    assert np.array_equal(nhwc(images.validation)[0], val)
    write_image(tmp_path / "stray/1.png")
    with pytest.raises(ValueError, match=r"stray must be in train, test or val"):
        load_folder(tmp_path)


def test_folder_with_a_size_resizes_and_crops(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the centre square
    write_image(tmp_path / "a.png", wide)
    write_image(tmp_path / "b.png", np.ascontiguousarray(wide.transpose(1, 0, 2)))
    same = write_image(tmp_path / "c.png")
    images = load_folder(tmp_path, 4)
    everything = np.concatenate([nhwc(images.test), nhwc(images.batch(0, 2, seed=0))])
    assert everything.shape == (3, 4, 4, 3)
    assert sum((image == same).all() for image in everything) == 1, "images of that size stay as they are"
    assert sum((image > 180).all() for image in everything) == 2, "the black sides are cut off"


def test_images_of_other_sizes_need_a_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", pixels(5, 4, 3))
    with pytest.raises(ValueError, match=r"b\.png has 4x5 pixels, it must be a 4x4 square .*give a size"):
        load_folder(tmp_path)
    write_image(tmp_path / "a.png", pixels(4, 6, 3))
    with pytest.raises(ValueError, match=r"a\.png has 6x4 pixels, .*give a size"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        load_folder(tmp_path, 0)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = write_image(tmp_path / "train/a.png", pixels(4, 4))
    clear = write_image(tmp_path / "test/a.png", pixels(4, 4, 4))
    images = load_folder(tmp_path)
    assert np.array_equal(nhwc(images.batch(0, 1, seed=0))[0], np.stack([grey] * 3, axis=-1))
    assert np.array_equal(nhwc(images.test)[0], clear[..., :3])


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore")  # the reader itself must turn the warning into an error
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image", "cannot identify"),
        (png_header(4, 4), ""),
        (png_header(10_000, 10_000), "decompression bomb"),  # where Pillow only warns
        (png_header(60_000, 60_000), "decompression bomb"),
    ],
    ids=["text", "truncated", "bomb", "larger bomb"],
)
def test_broken_images_and_bombs_are_named(content: bytes, reason: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    filters = list(warnings.filters)
    with pytest.raises(ValueError, match=rf"b\.png cannot be read as an image: .*{reason}") as caught:
        load_folder(tmp_path, 4)
    assert "\n" not in str(caught.value)
    assert warnings.filters == filters


def test_deep_images_are_not_cut_to_8_bits(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((4, 4), 1000, np.uint16))
    write_image(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"a\.png .*its mode I;16 has more than 8 bits a channel"):
        load_folder(tmp_path)


def test_folder_must_hold_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold two or more images \(\.png, .*got 0"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_folder(tmp_path / "absent")


# CIFAR-10

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
        cifar10 = load_cifar10(path)
        assert (cifar10.name, cifar10.shape, cifar10.num_classes) == ("cifar10", (3, 32, 32), 10)
        assert cifar10.validation is not None
        kept, held_out = data._hold_out(20, 1)
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
        load_cifar10(tmp_path)
    folder, *_ = write_cifar10(tmp_path)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin is missing"):
        load_cifar10(tmp_path)


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
        load_cifar10(folder)


class Payload:
    """Unpickles by a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


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
        load_cifar10(folder)
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


@pytest.mark.parametrize("labelled", [False, True])
def test_npz_with_a_split(labelled: bool, tmp_path: Path) -> None:
    arrays = {"train": pixels(30, 4, 6, 3), "test": pixels(3, 4, 6, 3), "names": np.array(["ignored"])}
    labels = {"train_labels": np.arange(30, dtype=np.uint8), "test_labels": np.arange(3)} if labelled else {}
    np.savez(tmp_path / "set.npz", **arrays, **labels)
    images = load_npz(tmp_path / "set.npz")
    assert (images.name, images.shape, images.num_classes) == ("set", (3, 4, 6), 30 if labelled else None)
    assert np.array_equal(nhwc(images._train), arrays["train"])
    assert np.array_equal(nhwc(images.test), arrays["test"])
    if labelled:
        assert images.test.labels is not None
        assert images.test.labels.tolist() == [0, 1, 2]
        batch = images.batch(0, 8, seed=0)
        assert batch.labels is not None
        assert np.array_equal(nhwc(batch), arrays["train"][batch.labels.numpy()])


@pytest.mark.parametrize("keys", [("x", "y"), ("x", "labels"), ("images", "y"), ("images", None)], ids=str)
@pytest.mark.parametrize("grey", [(), (1,)], ids=["NHW", "NHW1"])
def test_npz_without_a_split(keys: tuple[str, str | None], grey: tuple[int, ...], tmp_path: Path) -> None:
    array = pixels(20, 4, 4, *grey)
    labels = {keys[1]: np.arange(20)} if keys[1] else {}
    np.savez(tmp_path / "set.npz", **{keys[0]: array, **labels})
    images = load_npz(tmp_path / "set.npz")
    assert (images.shape, len(images.test)) == ((1, 4, 4), 2)
    assert images.num_classes == (20 if labels else None)
    everything = torch.cat([images.test.images, images.batch(0, 18, seed=0).images]).numpy()
    assert sorted(map(bytes, everything)) == sorted(map(bytes, array))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": np.ones((2, 4, 4, 3), np.float32)},
            "set.npz: x must be uint8 .*got float32 from 1.0 to 1.0; floats",
        ),
        ({"x": np.full((2, 4, 4, 3), 300)}, "x must be uint8 from 0 to 255, got int64 from 300 to 300"),
        ({"x": np.array(["a"])}, "x must be uint8 from 0 to 255, got <U1"),
        ({"x": pixels(2, 3, 4, 4)}, r"x must have shape .*\(N, h, w, 3\), got \(2, 3, 4, 4\)"),
        ({"x": pixels(4, 4)}, r"x must have shape .*got \(4, 4\)"),
        ({"x": pixels(0, 4, 4)}, r"x must have shape .*got \(0, 4, 4, 1\)"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(2)}, r"x needs 2 integers from 0 as y, got float64 \(2,\)"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(3, int)}, r"x needs 2 integers from 0 as y, got int64 \(3,\)"),
        ({"x": pixels(2, 4, 4), "y": np.array([0, -1])}, "x needs 2 integers from 0 as y"),
        ({"x": np.array([None])}, "cannot be read as an .npz archive: Object arrays cannot be loaded"),
        ({"train": pixels(2, 4, 4)}, "must hold train and test .*got train"),
        ({"z": pixels(2, 4, 4)}, "must hold train and test .*got z"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(2, int), "labels": np.zeros(2, int)}, "got x, y, labels"),
        ({"train": pixels(2, 4, 4), "test": pixels(2, 4, 4), "test_labels": np.zeros(2, int)}, "must hold"),
        ({"train": pixels(2, 4, 4), "test": pixels(2, 5, 5)}, "must be alike in shape"),
        ({"x": pixels(1, 4, 4)}, "must be alike in shape and labels, got .0, 1, 4, 4. unlabelled"),
    ],
)
def test_npz_that_does_not_fit_is_explained(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_npz(tmp_path / "set.npz")


def test_npz_object_array_runs_nothing(tmp_path: Path) -> None:
    written = tmp_path / "written"
    np.savez(tmp_path / "set.npz", x=np.array([Payload(written)]))
    with pytest.raises(ValueError, match=r"set\.npz cannot be read"):
        load_npz(tmp_path / "set.npz")
    (tmp_path / "set.npz").write_bytes(pickle.dumps(Payload(written)))
    with pytest.raises(ValueError, match=r"set\.npz cannot be read"):
        load_npz(tmp_path / "set.npz")
    assert not written.exists()
    with pytest.raises(FileNotFoundError, match="absent"):
        load_npz(tmp_path / "absent.npz")


# Names


def test_open_source_finds_the_reader(tmp_path: Path) -> None:
    assert isinstance(open_source(), PhotoSource)
    assert open_source("photos", size=16).shape == (3, 16, 16)
    np.savez(tmp_path / "set.npz", x=pixels(4, 6, 6, 3))
    assert open_source(str(tmp_path / "set.npz"), size=6).name == "set"
    write_image(tmp_path / "folder/a.png")
    write_image(tmp_path / "folder/b.png")
    assert open_source(str(tmp_path / "folder"), size=2).shape == (3, 2, 2)
    folder, *_ = write_cifar10(tmp_path)
    assert open_source(str(folder)).name == open_source(str(tmp_path), size=32).name == "cifar10"


def test_open_source_explains_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'absent' is not there; give 'photos', an \.npz"):
        open_source("absent")
    (tmp_path / "notes.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"spec must be 'photos', an \.npz file or a folder"):
        open_source(str(tmp_path / "notes.txt"))
    np.savez(tmp_path / "set.npz", x=pixels(4, 6, 6, 3))
    with pytest.raises(ValueError, match=r"size must be None or as in .*where it is \(6, 6\), got 8"):
        open_source(str(tmp_path / "set.npz"), size=8)
    write_cifar10(tmp_path)
    with pytest.raises(ValueError, match=r"size must be None or as in .*where it is \(32, 32\), got 64"):
        open_source(str(tmp_path), size=64)
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        open_source("photos", size=0)
