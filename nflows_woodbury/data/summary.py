"""What training would see: how many images of what sizes, which classes, what is held out, and what is passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nflows_woodbury.data.decoding import picture_sides
from nflows_woodbury.data.sources import ArraySource, ImageSource
from nflows_woodbury.data.walking import Found, shown

__all__ = ["describe_files", "describe_source"]

_LOOKED_AT = 1000  # files whose sizes are looked up, evenly spread
_LISTED = 20  # classes


def describe_source(spec: str, source: ImageSource) -> list[str]:
    """Lines on the images that :func:`~nflows_woodbury.data.opening.open_source` gave for ``spec``.

    >>> from nflows_woodbury.data.opening import open_source
    >>> for line in describe_source("photos", open_source("photos", size=16)):
    ...     print(line)
    data       photos: 634,503 training images of 16x16 pixels, 3 channels
    split      634,503 to train on, 512 to test on; the data come divided
    """
    parts = {"train": source.train_size, "test": len(source.test), "validate": len(source.validation or ())}
    whole = sum(parts.values()) if isinstance(source, ArraySource) else source.train_size
    lines = [f"data       {shown(spec)}: {whole:,} {_kind(source)}"]
    if source.is_fields:
        lines.append(_values(source))
    if source.found is not None:
        lines.append(_sizes(source.found))
    lines.append(f"split      {_parts(parts)}; {_division(source)}")
    if source.num_classes and isinstance(source, ArraySource):
        lines.append(_classes(source))
    return [*lines, *(f"note       {note}" for note in source.notes)]


def describe_files(found: Found) -> list[str]:
    """Lines on the files in a folder that cannot be opened as it is, such as one with images of several sizes.

    >>> from pathlib import Path
    >>> describe_files(Found(Path("pets")))
    ['data       pets: 0 images']
    """
    lines = [f"data       {shown(found.root)}: {len(found.names):,} images"]
    lines += [_sizes(found)] if found.names else []
    return lines + [f"note       {note}" for note in (found.passed_over(),) if note]


def _sizes(found: Found) -> str:
    """The sizes of the files, upright: the smallest and the largest by pixels, and what most have."""
    step = -(-len(found.names) // _LOOKED_AT)
    looked_at = found.names[::step]
    sides = Counter(filter(None, (picture_sides(found.root / name) for name in looked_at)))
    if not sides:
        return "sizes      none of the files can be read"
    of_some = f" (of {len(looked_at):,} files)" if step > 1 else ""
    ordered = sorted(sides, key=lambda size: size[0] * size[1])
    picked = ordered[0], ordered[-1], sides.most_common(1)[0][0]
    smallest, largest, most = (f"{width}x{height}" for height, width in picked)
    if len(sides) == 1:
        return f"sizes      all {most}{of_some}"
    return f"sizes      {len(sides):,}, from {smallest} to {largest}, most often {most}{of_some}"


def _kind(source: ImageSource) -> str:
    channels, *sizes = source.shape
    if source.is_fields:
        return f"fields of {' x '.join(map(str, sizes))} values, {channels} channel{'s' * (channels > 1)}"
    what = "images" if isinstance(source, ArraySource) else "training images"
    return f"{what} of {'x'.join(map(str, reversed(sizes)))} pixels, {channels} channels"


def _values(source: ImageSource) -> str:
    """The range, mean and standard deviation of some training fields."""
    some = source.batch(0, min(_LOOKED_AT, source.train_size), seed=0).images
    of_some = f" (of {len(some):,} fields)" if len(some) < source.train_size else ""
    wide, dtype = some.double(), str(some.dtype).removeprefix("torch.")
    ends, moments = f"from {wide.min():.4g} to {wide.max():.4g}", f"mean {wide.mean():.4g}, deviation {wide.std():.4g}"
    return f"values     {dtype} {ends}, {moments}{of_some}"


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} to {part} on" for part, count in parts.items() if count)


def _division(source: ImageSource) -> str:
    is_held_out = source.split is not None and source.split.test_below
    what = "field's number" if source.is_fields else "image's name"
    return f"held out by a hash of each {what}" if is_held_out else "the data come divided"


def _classes(source: ArraySource) -> str:
    count = source.num_classes or 0
    names: Sequence[object] = source.class_names or range(count)
    numbers = source.class_counts()
    listed = [f"{shown(name)} {number:,}" for name, number in zip(names, numbers, strict=True)]
    more = f" and {count - _LISTED:,} more, of {min(numbers):,} to {max(numbers):,} images" if count > _LISTED else ""
    return f"classes    {count:,}: {', '.join(listed[:_LISTED])}{more}"
