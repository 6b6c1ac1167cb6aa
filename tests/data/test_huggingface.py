"""Hugging Face's data sets: parquet files that the library itself writes, and the hub with its network taken away."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagefiles import nhwc, pixels, trained_on, write_image
from PIL import Image

from nflows_woodbury.data import sources
from nflows_woodbury.data.opening import load_hub, load_parquet, open_source
from nflows_woodbury.data.splits import Split, split_rows

datasets = pytest.importorskip("datasets", reason="needs the extra datasets")
import pyarrow.parquet  # noqa: E402

CLASSES = datasets.ClassLabel(names=["cat", "dog", "owl"])


@pytest.fixture(autouse=True)
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def table(images: np.ndarray, labels: list[int | None] | None = None, **columns: Any) -> Any:
    """A data set with images, and labels and other columns if any."""
    content = {"picture": list(map(Image.fromarray, images)), "note": ["x"] * len(images)}
    features = {"picture": datasets.Image(), "note": datasets.Value("string")}
    if labels is not None:
        content["kind"], features["kind"] = labels, CLASSES
    content |= {name: values for name, (values, _) in columns.items()}
    features |= {name: feature for name, (_, feature) in columns.items()}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def write(path: Path, images: np.ndarray, labels: list[int | None] | None = None, **columns: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    table(images, labels, **columns).to_parquet(path)
    return images


def load(path: Path, size: int | None = None, **options: Any) -> sources.ArraySource:
    return load_parquet(path, size, cache=path.parent / "cache", **options)


# Parquet files


def test_a_file_is_read_with_its_labels(tmp_path: Path) -> None:
    images = write(tmp_path / "set.parquet", pixels(20, 4, 4, 3), [i % 3 for i in range(20)])
    for source in (
        load(tmp_path / "set.parquet"),
        open_source(str(tmp_path / "set.parquet"), cache=tmp_path / "cache"),
    ):
        kept, tenth, _, _ = split_rows(range(20), Split(), None, None)
        assert (source.name, source.shape, source.num_classes) == ("set", (3, 4, 4), 3)
        assert np.array_equal(nhwc(trained_on(source)), images[kept])
        assert np.array_equal(trained_on(source).labels, kept % 3)
        assert np.array_equal(nhwc(source.test), images[tenth])
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    assert len(load(tmp_path / "set.parquet", test_images=7).test) == 7


def test_images_are_resized_and_become_rgb(tmp_path: Path) -> None:
    wide = np.zeros((3, 8, 24), np.uint8)
    wide[:, :, 8:16] = 200  # the centre square
    write(tmp_path / "set.parquet", wide)
    source = load(tmp_path / "set.parquet", 4)
    assert source.shape == (3, 4, 4)
    assert (trained_on(source).images > 180).all()
    assert load(tmp_path / "set.parquet").shape == (3, 8, 24)


@pytest.mark.parametrize("inner", ["", "data/"])
@pytest.mark.parametrize("other", ["test", "validation", "valid", "both"])
def test_a_folder_of_files_has_splits(other: str, inner: str, tmp_path: Path) -> None:
    root = tmp_path / "a [b] * 1.0"  # the library takes patterns
    train = [write(root / f"{inner}train-0000{i}-of-00002.parquet", pixels(3, 4, 4, 3)) for i in range(2)]
    names = ["test", "validation"] if other == "both" else [other]
    others = {name: write(root / f"{inner}{name}-00000-of-00001.parquet", pixels(2, 4, 4, 3)) for name in names}
    source = open_source(str(root), cache=tmp_path / "cache")
    assert (source.name, source.num_classes) == ("a [b] * 1.0", None)
    assert np.array_equal(nhwc(trained_on(source)), np.concatenate(train))
    assert np.array_equal(nhwc(source.test), others[names[0]])
    assert (source.validation is None) == (other != "both")
    if source.validation is not None:
        assert np.array_equal(nhwc(source.validation), others["validation"])
    with pytest.raises(ValueError, match=r"test_images must be None, as '.*' has a test set of its own, got 2"):
        load(root, test_images=2)


def test_files_of_other_names_are_one_set(tmp_path: Path) -> None:
    parts = [write(tmp_path / "set" / f"000{i}.parquet", pixels(5, 4, 4, 3)) for i in range(2)]
    source = load(tmp_path / "set")
    assert sorted(map(bytes, np.concatenate([nhwc(trained_on(source)), nhwc(source.test)]))) == sorted(
        map(bytes, np.concatenate(parts))
    )
    write(tmp_path / "set/train.parquet", pixels(5, 4, 4, 3))
    with pytest.raises(ValueError, match=r"0000\.parquet must be named train, test or validation, as others in .* are"):
        load(tmp_path / "set")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no \.parquet file and holds none"):
        load(tmp_path / "absent")
    write(tmp_path / "set/train-00000-of-00003.parquet", pixels(5, 4, 4, 3))
    write(tmp_path / "set/train-00002-of-00003.parquet", pixels(5, 4, 4, 3))
    with pytest.raises(FileNotFoundError, match=r"train-00001-of-00003\.parquet is missing, one of a series of 3"):
        open_source(str(tmp_path / "set"))


def test_hidden_labels_and_several_columns_of_them_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "hidden/train.parquet", pixels(5, 4, 4, 3), [0, 1, 2, 0, 1])
    write(tmp_path / "hidden/test.parquet", pixels(2, 4, 4, 3), [-1, -1])
    assert load(tmp_path / "hidden").num_classes is None
    write(tmp_path / "none.parquet", pixels(5, 4, 4, 3), [0, 1, None, 0, 1])
    assert load(tmp_path / "none.parquet").num_classes is None
    write(tmp_path / "two.parquet", pixels(5, 4, 4, 3), [0, 1, 2, 0, 1], coarse=([0, 1, 0, 1, 0], CLASSES))
    assert load(tmp_path / "two.parquet").num_classes is None


def test_files_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    table(pixels(5, 4, 4, 3)).remove_columns("picture").to_parquet(path)
    with pytest.raises(ValueError, match=r"must have one column of images, got none of note"):
        load(path)
    write(path, pixels(5, 4, 4, 3), mask=(list(map(Image.fromarray, pixels(5, 4, 4))), datasets.Image()))
    with pytest.raises(ValueError, match=r"must have one column of images, got picture, mask of picture, note, mask"):
        load(path)
    write(path, pixels(1, 4, 4, 3))
    with pytest.raises(ValueError, match="two or more images to hold a test set out of them, got 1"):
        load(path)
    write(path, pixels(5, 4, 4, 3))
    with pytest.raises(ValueError, match="test_images must be below 5"):
        load(path, test_images=5)
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        load(path, 0)
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"set\.parquet cannot be loaded: .*[Pp]arquet") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_images_of_other_sizes_need_a_size(tmp_path: Path) -> None:
    content = [{"bytes": encoded(pixels(4, side, 3)), "path": None} for side in (4, 4, 5)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": content}, features=features).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(
        ValueError, match=r"image 2 of train in .* has 5x4 pixels, it must be of 4x4 pixels .*give a size"
    ):
        load(tmp_path / "set.parquet")


def encoded(array: np.ndarray, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bytes": b"no image", "path": None}, "image 2 of train in .* cannot be read as an image"),
        ({"bytes": encoded(np.full((4, 4), 2**20, np.int32), "tiff"), "path": None}, "more than 16 bits a channel"),
        (None, "image 2 of train in .* is missing"),
    ],
    ids=["broken", "deep", "none"],
)
def test_broken_images_are_named(content: dict[str, Any] | None, message: str, tmp_path: Path) -> None:
    good = [{"bytes": encoded(pixels(4, 4, 3)), "path": None} for _ in range(2)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": [*good, content]}, features=features).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "set.parquet")


def test_image_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set.parquet", pixels(3, 8, 8, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # twice as many are an error of Pillow's own
    with pytest.raises(ValueError, match=r"image 0 of train in .* cannot be read as an image: .*decompression bomb"):
        load(tmp_path / "set.parquet", 4)


# Tables of other kinds


def rows(count: int = 20) -> tuple[np.ndarray, list[bytes]]:
    images = pixels(count, 4, 4, 3)
    return images, [encoded(image) for image in images]


def table_of(kind: str, content: list[bytes], folder: Path) -> Any:
    """A plain Arrow table, as pandas writes it, with the images in one column."""
    if kind == "paths":
        for number, image in enumerate(content):
            (folder / "pictures").mkdir(exist_ok=True)
            (folder / "pictures" / f"{number}.PNG").write_bytes(image)
    columns: dict[str, list[Any]] = {
        "structs": [{"bytes": image, "path": "a.png"} for image in content],
        "structs without paths": [{"bytes": image} for image in content],
        "bytes": list(content),
        "paths": [f"pictures/{number}.PNG" for number in range(len(content))],
    }
    return pyarrow.table({"what": columns[kind], "id": list(range(len(content))), "caption": ["a cat"] * len(content)})


KINDS = ["structs", "structs without paths", "bytes", "paths"]


@pytest.mark.parametrize("name", ["image", "what", "jpg", "0"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_only_column_of_images_is_found(kind: str, name: str, tmp_path: Path) -> None:
    images, content = rows()
    plain = table_of(kind, content, tmp_path).rename_columns([name, "id", "caption"])
    pyarrow.parquet.write_table(plain, tmp_path / "set.parquet")
    source = open_source(str(tmp_path / "set.parquet"), cache=tmp_path / "cache")
    seen = np.concatenate([nhwc(trained_on(source)), nhwc(source.test)])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, images))
    assert np.array_equal(nhwc(source.test), images[list(map(int, source.test.names or ()))])


@pytest.mark.parametrize("kind", KINDS)
def test_two_columns_of_images_are_refused(kind: str, tmp_path: Path) -> None:
    plain = table_of(kind, rows()[1], tmp_path)
    pyarrow.parquet.write_table(plain.append_column("mask", plain["what"]), tmp_path / "set.parquet")
    with pytest.raises(ValueError, match="must have one column of images, got what, mask of what, id, caption, mask"):
        load(tmp_path / "set.parquet")


LABELS: dict[str, tuple[dict[str, list[Any]], tuple[str, ...] | None, int | None]] = {
    "texts": ({"label": ["b10", "b9"] * 10}, ("b9", "b10"), 2),
    "numbers": ({"label": [0, 3] * 10}, None, 4),
    "capital": ({"Class": ["x", "y"] * 10}, ("x", "y"), 2),
    "hidden": ({"label": [0, -1] * 10}, None, None),
    "missing": ({"label": ["a", None] * 10}, None, None),
    "two": ({"label": [0, 1] * 10, "category": ["a", "b"] * 10}, None, None),
    "floats": ({"label": [0.5, 1.5] * 10}, None, None),
    "another name": ({"age": [1, 2] * 10}, None, None),
}


@pytest.mark.parametrize(("columns", "names", "count"), LABELS.values(), ids=LABELS)
def test_classes_of_plain_tables(
    columns: dict[str, list[Any]], names: tuple[str, ...] | None, count: int | None, tmp_path: Path
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": rows()[1], **columns}), tmp_path / "set.parquet")
    source = load(tmp_path / "set.parquet")
    assert (source.class_names, source.num_classes) == (names, count)
    assert (count is None and "age" not in columns) == any("no classes" in note for note in source.notes)
    if count:
        assert source.test.labels is not None
        values = [next(iter(columns.values()))[int(row)] for row in source.test.names or ()]
        assert [names[label] if names else label for label in source.test.labels.tolist()] == values


@pytest.mark.parametrize("split", [False, True])
def test_a_folder_of_save_to_disk_is_read(split: bool, tmp_path: Path) -> None:
    images = pixels(20, 4, 4, 3)
    whole = table(images, [i % 3 for i in range(20)])
    if split:
        whole = datasets.DatasetDict(train=whole.select(range(15)), test=whole.select(range(15, 20)))
    whole.save_to_disk(str(tmp_path / "pets"))
    source = open_source(str(tmp_path / "pets"), cache=tmp_path / "cache")
    assert (source.name, source.class_names) == ("pets", ("cat", "dog", "owl"))
    if split:
        assert np.array_equal(nhwc(source.test), images[15:])
        assert np.array_equal(nhwc(trained_on(source)), images[:15])
    else:
        assert np.array_equal(nhwc(source.test), images[list(map(int, source.test.names or ()))])
    assert open_source(str(tmp_path / "pets"), size=2, cache=tmp_path / "cache").shape == (3, 2, 2)


def test_broken_rows_are_all_named_and_may_be_left_out(tmp_path: Path) -> None:
    _, content = rows()
    content[3], content[7] = b"no image", content[7][:-30]
    pyarrow.parquet.write_table(pyarrow.table({"image": content}), tmp_path / "set.parquet")
    with pytest.raises(
        ValueError, match=r"2 images cannot be read: image 3 of train .*; image 7 of train .*skip_broken"
    ):
        load(tmp_path / "set.parquet")
    source = load(tmp_path / "set.parquet", skip_broken=True)
    assert source.train_size + len(source.test) == 18
    assert source.notes == ("skipped 2 images that cannot be read",)
    assert {3, 7}.isdisjoint(map(int, [*(source.test.names or ()), *(trained_on(source).names or ())]))


def test_images_in_tables_are_turned_and_put_on_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    wide, clear = io.BytesIO(), encoded(np.zeros((6, 4, 4), np.uint8))
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(wide, "png", exif=exif)
    pyarrow.parquet.write_table(pyarrow.table({"image": [wide.getvalue(), clear]}), tmp_path / "set.parquet")
    source = load(tmp_path / "set.parquet")
    assert source.shape == (3, 6, 4)
    assert source.notes == ("1 image with transparent parts, which are put on white",)


@pytest.mark.parametrize("spelling", ["Train Test", "TRAIN VALID", "training testing", "train validation", "train val"])
def test_parts_go_by_their_common_names(spelling: str, tmp_path: Path) -> None:
    train, other = spelling.split()
    write(tmp_path / f"set/{train}-00000-of-00001.parquet", pixels(5, 4, 4, 3))
    last = write(tmp_path / f"set/{other}.parquet", pixels(3, 4, 4, 3))
    assert np.array_equal(nhwc(load(tmp_path / "set").test), last)


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """What the hub has: the library's loader reads these files in its place. Remembers what it was asked for."""
    files: dict[str, Any] = {}
    load_dataset = datasets.load_dataset

    def answer(name: str, config: str | None = None, *, cache_dir: str | None = None) -> Any:
        files["asked"] = (name, config)
        parts = {split: str(file) for split, file in files.items() if split != "asked"}
        return load_dataset("parquet", data_files=parts, cache_dir=cache_dir)

    monkeypatch.setattr(datasets, "load_dataset", answer)
    return files


@pytest.mark.parametrize(("spec", "config"), [("owner/set-1.0", None), ("owner/set-1.0:plain_text", "plain_text")])
def test_hub_splits_are_those_of_the_library(
    spec: str, config: str | None, hub: dict[str, Any], tmp_path: Path
) -> None:
    hub["extra"] = tmp_path / "extra.parquet"
    for split in ("validation", "test", "train", "extra"):
        hub[split] = tmp_path / f"{split}.parquet"
        write(hub[split], np.full((3, 4, 4, 3), len(split), np.uint8), [0, 1, 2])
    source = open_source(f"hf:{spec}", cache=tmp_path / "cache")
    assert hub["asked"] == ("owner/set-1.0", config)
    assert (source.name, source.num_classes, source.train_size) == ("set-1.0", 3, 3)
    assert source.validation is not None
    sets = {"train": trained_on(source), "test": source.test, "validation": source.validation}
    for name, images in sets.items():
        assert images.images.unique().tolist() == [len(name)]
    for split in ("validation", "test", "extra"):
        del hub[split]
    assert len(load_hub(spec, test_images=2, cache=tmp_path / "cache").test) == 2


def test_hub_data_are_decoded_once(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["train"] = tmp_path / "train.parquet"
    write(hub["train"], pixels(5, 4, 4, 3))
    for size in (None, None, 2, 2):
        load_hub("owner/name", size, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_hub_may_have_images_in_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = np.stack([write_image(tmp_path / f"{i}.png") for i in range(3)])
    content = {"image": [str(tmp_path / f"{i}.png") for i in range(3)]}
    split = datasets.Dataset.from_dict(content, features=datasets.Features({"image": datasets.Image()}))
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.DatasetDict(all=split))
    source = load_hub("owner/name")
    assert sorted(map(bytes, np.concatenate([nhwc(source.test), nhwc(trained_on(source))]))) == sorted(
        map(bytes, arrays)
    )
    (tmp_path / "2.png").unlink()
    with pytest.raises(ValueError, match=r"image 2 of train in owner/name cannot be read as an image: .*2\.png"):
        load_hub("owner/name")


def test_hub_needs_a_training_split(hub: dict[str, Any], tmp_path: Path) -> None:
    for split in ("dev", "test"):
        hub[split] = tmp_path / f"{split}.parquet"
        write(hub[split], pixels(5, 4, 4, 3))
    with pytest.raises(ValueError, match="owner/name must have a split train, got dev, test"):
        load_hub("owner/name", cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["mnist", "a/b/c", "../secret", "a/b:", "", "a b/c", "/etc/x:y"])
def test_hub_names_are_checked(name: str, hub: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be OWNER/NAME or OWNER/NAME:CONFIG, got"):
        open_source(f"hf:{name}")
    assert not hub


def test_a_folder_here_is_not_taken_for_the_hub(
    hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    with pytest.raises(ValueError, match="owner/name must not be a path that is here too"):
        open_source("hf:owner/name")
    assert not hub


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionError("Couldn't reach\nthe hub"), OSError),
        (datasets.exceptions.DatasetNotFoundError("doesn't exist"), FileNotFoundError),
        (ValueError("BuilderConfig 'x' not found"), ValueError),
        (PermissionError(errno.EACCES, "Permission denied"), OSError),
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (RuntimeError("Dataset scripts are no longer supported"), ValueError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_hub_errors_name_the_data(error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(kind) as caught:
        load_hub("owner/name")
    assert str(caught.value).startswith(f"owner/name cannot be loaded: {' '.join(str(error).split())}")
    assert ("; $HF_HOME names another folder" in str(caught.value)) == (getattr(error, "errno", None) is not None)
