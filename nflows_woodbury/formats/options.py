"""Options that do not go with some data: each refusal names the option, the data and what would do."""

from __future__ import annotations

__all__ = ["no_test_images", "same_size"]


def same_size(spec: object, size: int | None, sides: tuple[int, int]) -> None:
    """Check that ``size`` is None or the side of images that are not resized, of ``sides`` (height, width)."""
    if size is not None and sides != (size, size):
        raise ValueError(f"size must be None or as in {str(spec)!r}, where it is {sides}, got {size}")


def no_test_images(spec: object, test_images: int | None) -> None:
    """Check that ``test_images`` is None, for data with a test set of their own."""
    if test_images is not None:
        raise ValueError(f"test_images must be None, as {str(spec)!r} has a test set of its own, got {test_images}")
