"""Which images are held out: by a hash of each image's name, so that one that is added or removed moves no other."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from nflows_woodbury.checks import check_natural_int, check_one_of, check_positive_int

__all__ = ["Split", "check_no_test_images", "epoch_order", "fractions_of", "held_out_count", "split_part", "split_rows"]

Indices = npt.NDArray[np.int64]

SPLITS, BATCHES = 1, 2  # first words of the random keys: splits are fixed, batches also take the run's seed

RULES = ("hash", "permutation")
TEST_SHARE, VALIDATION_SHARE, LARGEST_VALIDATION = 0.1, 0.05, 1000

_PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}  # fmt: skip
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


@dataclass(frozen=True)
class Split:
    """How a test set and a validation set were held out, so that another time the same images are.

    Args:
        rule: ``"hash"``, which holds out an image whose :func:`fraction <fractions_of>` is below a bound; or
            ``"permutation"``, one of all images, which draws anew when their number changes, as early runs did.
        test_below: images with a fraction below this are the test set.
        validation_below: of the others, those below this are the validation set.

    >>> Split.from_dict(Split(test_below=0.1, validation_below=0.145).to_dict())
    Split(rule='hash', test_below=0.1, validation_below=0.145)
    >>> Split.from_dict(None)
    Split(rule='permutation', test_below=None, validation_below=None)
    """

    rule: str = "hash"
    test_below: float | None = None
    validation_below: float | None = None

    def __post_init__(self) -> None:
        """Check the rule."""
        check_one_of("rule", self.rule, RULES)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Split:
        """The split that :meth:`to_dict` gave, or of a run that keeps none, which drew a permutation."""
        return cls("permutation") if values is None else cls(**values)


@lru_cache(maxsize=2)  # two, because a batch may straddle epochs
def epoch_order(count: int, seed: int, epoch: int) -> Indices:
    """Return the order in which an epoch takes ``count`` images, the same for the same seed.

    >>> sorted(epoch_order(5, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([BATCHES, seed, epoch]).permutation(count)


def split_part(name: str) -> str | None:
    """Return the part of a split that a name stands for, ``train``, ``test`` or ``val``, or None; any case.

    >>> [split_part(name) for name in ("Training", "valid", "TEST", "cats")]
    ['train', 'val', 'test', None]
    """
    return _PART_OF.get(name.lower())


def fractions_of(names: Sequence[object]) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each name, which looks random and depends on that name alone, on every machine.

    It is the first 53 bits of the SHA-256 of the name's UTF-8, its accents composed (NFC), as a binary fraction.

    >>> fractions_of(["cats/1.jpg", "dogs/1.jpg", 7]).round(4).tolist()
    [0.8705, 0.4678, 0.4727]
    """
    fractions = np.empty(len(names))
    for number, name in enumerate(names):
        encoded = unicodedata.normalize("NFC", str(name)).encode("utf-8", "surrogateescape")
        fractions[number] = (int.from_bytes(sha256(encoded).digest()[:8], "big") >> 11) * 2.0**-53
    return fractions


def held_out_count(total: int, test_images: int | None = None) -> int:
    """Return how many of ``total`` images a permutation holds out as a test set: ``test_images``, or a tenth.

    TypeError or ValueError for a ``test_images`` that is no positive integer or leaves no image to train on.
    """
    if total < 2:
        raise ValueError(f"there must be two or more images to hold a test set out of them, got {total}")
    count = max(1, total // 10) if test_images is None else check_positive_int("test_images", test_images)
    if count >= total:
        raise ValueError(f"test_images must be below {total}, the number of images, got {count}")
    return count


def check_no_test_images(spec: object, test_images: int | None) -> None:
    """Check that ``test_images`` is None, for data with a test set of their own."""
    if test_images is not None:
        raise ValueError(f"test_images must be None, as {str(spec)!r} has a test set of its own, got {test_images}")


def split_rows(
    names: Sequence[object],
    split: Split,
    test_images: int | None = None,
    validation_size: int | None = None,
    *,
    has_test: bool = False,
) -> tuple[Indices, Indices, Indices, Split]:
    """Return the rows to train on, to test on and to validate on, each in order, and the split with its bounds.

    Args:
        names: of the images.
        split: the rule, and bounds that are fixed already; then the counts do not count.
        test_images: how many to test on, exactly; None for about a tenth.
        validation_size: how many of the rest to validate on; None for about 5 %, none of fewer than 20, at most 1,000.
        has_test: whether there is a test set already, so that none is held out.

    Raises:
        TypeError, ValueError: for counts that do not fit, or bounds that leave no image to train or to test on.

    >>> train, test, validation, split = split_rows(range(100), Split(), test_images=10)
    >>> len(test), split.validation_below is None
    (10, False)
    >>> more, same, _, _ = split_rows(range(120), split)  # an image that is added moves no other
    >>> set(train.tolist()) <= set(more.tolist()), set(test.tolist()) <= set(same.tolist())
    (True, True)
    """
    if split.rule == "permutation":
        return *_permuted(len(names), test_images, validation_size, has_test), split
    fractions = fractions_of(names)
    test_below = 0.0
    if not has_test:
        count = held_out_count(len(names), test_images)
        test_below = split.test_below or _bound(fractions, count, test_images)
    rest = np.sort(fractions[fractions >= test_below])
    if not len(rest) or (len(rest) == len(names) and not has_test):
        what = "that was held out" if len(rest) else "to train on"
        raise ValueError(f"there must be an image {what} among the {len(names)}, by the split {split}, got none")
    validation_below = split.validation_below
    if validation_below is None:
        validation_below = _validation_bound(rest, test_below, validation_size)
    parts = np.searchsorted([test_below, validation_below], fractions, side="right")
    test, validation, train = (np.flatnonzero(parts == part) for part in range(3))
    return train, test, validation, Split("hash", test_below, validation_below)


def _bound(fractions: npt.NDArray[np.float64], count: int, asked: int | None) -> float:
    """Return a bound with ``count`` of the fractions below it if that was asked for, else a tenth, or what is near."""
    ordered = np.sort(fractions)
    if asked is None and ordered[0] < TEST_SHARE <= ordered[-1]:
        return TEST_SHARE
    return float(ordered[count])


def _validation_bound(rest: npt.NDArray[np.float64], test_below: float, count: int | None) -> float:
    if count is not None:
        return float(rest[_validation_count(len(rest), count)]) if count else test_below
    if len(rest) < 1 / VALIDATION_SHARE:
        return test_below
    bound = test_below + (1 - test_below) * VALIDATION_SHARE
    if len(rest) > LARGEST_VALIDATION:
        bound = min(bound, float(rest[LARGEST_VALIDATION]))
    return bound


def _permuted(
    total: int, test_images: int | None, validation_size: int | None, has_test: bool
) -> tuple[Indices, Indices, Indices]:
    rows, test = _hold_out(np.arange(total), 0 if has_test else held_out_count(total, test_images))
    if validation_size is None:
        validation_size = min(LARGEST_VALIDATION, len(rows) // 20)
    rows, validation = _hold_out(rows, _validation_count(len(rows), validation_size))
    return rows, test, validation


def _validation_count(rest: int, count: int) -> int:
    if check_natural_int("validation_size", count) >= rest:
        raise ValueError(f"validation_size must be below {rest}, the number of images in train, got {count}")
    return count


def _hold_out(rows: Indices, count: int) -> tuple[Indices, Indices]:
    """Return the rows that stay and ``count`` rows to hold out, in their order and the same ones in every run."""
    order = np.random.default_rng(SPLITS).permutation(len(rows))
    kept = len(rows) - count
    return rows[np.sort(order[:kept])], rows[np.sort(order[kept:])]
