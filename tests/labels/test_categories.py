"""Classes and label sets: ids, things and stuff, colours."""

from __future__ import annotations

import numpy as np
import pytest

from panembed.errors import SettingsError
from panembed.labels.categories import Category, LabelSet, distinct_color

LABEL_SET = LabelSet(
    [
        Category(7, "road", False),
        Category(26, "car", True),
        Category(0, "sky", False),
        Category(999, "person", True),
    ]
)
THINGS = (1, 3)


def test_label_set_knows_things_stuff_and_ids() -> None:
    assert (LABEL_SET.things, LABEL_SET.stuff, LABEL_SET.ignore) == ((1, 3), (0, 2), 255)
    assert [LABEL_SET.index_of(c.id) for c in LABEL_SET] == [0, 1, 2, 3]
    assert LabelSet.from_list(LABEL_SET.to_list()) == LABEL_SET
    assert hash(LabelSet.from_list(LABEL_SET.to_list())) == hash(LABEL_SET)
    assert "26=car*" in repr(LABEL_SET)
    with pytest.raises(KeyError):
        LABEL_SET.index_of(5)


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([], "needs 1 to 255 classes, found 0"),
        ([Category(i, str(i), False) for i in range(256)], "found 256"),
        ([Category(1, "a", True), Category(1, "b", True)], "class id '1' occurs twice"),
        ([Category(1, "a", True), Category(2, "a", True)], "class name 'a' occurs twice"),
        ([Category(-1, "plate", True)], "'plate' has id -1"),
        ([Category(65535, "plate", True)], "'plate' has id 65535; expected 0..65534"),
    ],
)
def test_wrong_label_sets_are_refused(categories: list[Category], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        LabelSet(categories)


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "name": "leaf"},
        {"id": "x", "name": "leaf", "isthing": 1},
        {"id": 1, "name": "leaf", "isthing": 1, "color": [1, 2]},
        "leaf",
        None,
    ],
)
def test_wrong_rows_are_named(row: object) -> None:
    with pytest.raises(SettingsError, match=r"class 1 of the label set: expected id, name, isthing"):
        LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, row])  # type: ignore[list-item]


def test_colors_of_neighbours_differ() -> None:
    colors = np.array([distinct_color(i) for i in range(100)])
    assert colors.min() >= 0
    assert colors.max() <= 255
    assert len(np.unique(colors, axis=0)) == 100
    assert np.abs(np.diff(colors, axis=0)).sum(1).min() > 60


def test_stuff_is_darker_than_things_where_nobody_said_a_colour() -> None:
    rows = [{"id": number, "name": str(number), "isthing": number % 2} for number in range(8)]
    label_set = LabelSet.from_list(rows)
    brightness = [max(category.color) for category in label_set]
    assert max(brightness[::2]) < min(brightness[1::2])
    assert len({category.color for category in label_set}) == 8
