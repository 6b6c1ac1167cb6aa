"""Classes go by name: how they sort, what a label stands for, and other data's numbers."""

from __future__ import annotations

import pytest
import torch

from nflows_woodbury.data.classes import class_number, in_classes, natural_order


@pytest.mark.parametrize(
    "names",
    [
        ["1", "2", "10"],
        ["img1", "img2", "img10", "img11"],
        ["a1b2", "a1b10", "a2b1"],
        ["1", "02", "3"],
        ["A", "b", "C"],
        ["1", "9 lives", "10", "cats"],
        ["", "1", "a"],
        ["cats", "cats 2", "dogs"],
        ["٢", "10"],  # digits of other scripts are digits
        ["x²", "x³"],  # and superscripts are letters
    ],
    ids=str,
)
def test_names_sort_as_people_count(names: list[str]) -> None:
    assert sorted(reversed(names), key=natural_order) == names


def test_the_order_does_not_depend_on_where_it_starts() -> None:
    names = ["a", "A", "01", "1"]
    assert sorted(names, key=natural_order) == sorted(reversed(names), key=natural_order)


@pytest.mark.parametrize(
    ("label", "names", "number"),
    [
        ("cats", ("birds", "cats"), 1),
        ("0", ("birds", "cats"), 0),
        (1, ("birds", "cats"), 1),
        ("10", ("1", "2", "10"), 2),
        ("2", ("1", "2", "10"), 1),
        (10, ("1", "2", "10"), 2),
        ("0", ("1", "2", "10"), 0),
        ("1", None, 1),
        (0, None, 0),
    ],
)
def test_a_label_is_a_name_or_a_number(label: str | int, names: tuple[str, ...] | None, number: int) -> None:
    assert class_number(label, names, 2 if names is None else len(names)) == number


@pytest.mark.parametrize(
    ("label", "names", "message"),
    [
        (
            "cat",
            ("birds", "cats"),
            "label must be one of the classes birds, cats, or their numbers .*'cat'; cats is near",
        ),
        ("2", ("birds", "cats"), "from 0 to 1, got '2'"),
        ("-1", ("birds", "cats"), "got '-1'"),
        (-1, None, "label must be one of the 2 classes, from 0 to 1, got -1"),
        ("cats", None, "one of the 2 classes, from 0 to 1, got 'cats'"),
        ("٢", None, "got '٢'"),
        ("x", tuple(map(str, range(100))), "0, 1, 2, .*, 19 and 80 more, or"),
    ],
)
def test_labels_that_are_none_are_explained(label: str | int, names: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_number(label, names, 2 if names is None else len(names))


def test_numbers_without_names_stay_and_must_be_the_models() -> None:
    labels = torch.tensor([0, 2])
    assert in_classes(labels, None, ("a", "b", "c")).tolist() == [0, 2]
    with pytest.raises(ValueError, match="labels must be below 2, the number of the model's classes, got 2"):
        in_classes(labels, None, ("a", "b"))


def test_only_classes_with_images_must_be_known() -> None:
    labels = torch.tensor([2, 0, 2])
    assert in_classes(labels, ("cats", "owls", "dogs"), ("dogs", "cats")).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="classes must be among dogs, as the model's, got cats"):
        in_classes(labels, ("cats", "owls", "dogs"), ("dogs",))
