"""Classes: their ids in files, names and colours, and which of them are things.

A class has a *class index*, its place in the label set, in memory; its id stands for it in files.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from panembed.errors import SettingsError

IGNORE = 255
"""Class index of pixels that have no class: excluded from losses, void in Panoptic Quality."""


def distinct_color(index: int) -> tuple[int, int, int]:
    """Give the `index`-th of an endless list of well-told-apart RGB colours, 0..255 each.

    Hues follow the golden ratio, so that any run of indices is spread over the colour circle.

    >>> distinct_color(0) != distinct_color(1)
    True
    """
    hue = (0.33 + index * 0.618033988749895) % 1.0
    saturation = (0.85, 0.60, 0.95)[index % 3]
    value = (0.95, 0.80, 0.65)[(index // 3) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@dataclass(frozen=True, slots=True)
class Category:
    """One class.

    Attributes:
        id: the number that stands for the class in files, 0..65534; free of order and gaps.
        name: for people.
        is_thing: True for countable objects (*things*), False for *stuff*.
        color: RGB, 0..255 each.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int] = (128, 128, 128)


class LabelSet:
    """The classes of a data set, in the order of the network's channels.

    A class's *index* is its place in this list, 0..C-1: that is what `PanopticMap.semantic` and the network hold.
    Its `Category.id` is what files hold.

    Args:
        categories: at least one, at most 255, with ids and names that occur once.

    >>> leaves = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
    >>> leaves.things, leaves.stuff, leaves.index_of(1)
    ((1,), (0,), 1)
    """

    def __init__(self, categories: Iterable[Category]) -> None:
        self.categories: tuple[Category, ...] = tuple(categories)
        if not 1 <= len(self.categories) <= IGNORE:
            raise SettingsError(f"a label set needs 1 to {IGNORE} classes, found {len(self.categories)}")
        for what, values in (("id", [c.id for c in self]), ("name", [c.name for c in self])):
            twice = sorted({str(v) for v in values if values.count(v) > 1})
            if twice:
                raise SettingsError(f"label set: class {what} {twice[0]!r} occurs twice; each must be its own")
        for category in self:
            # 65,535 is void in 16-bit pictures of classes.
            if not 0 <= category.id <= 65_534:
                raise SettingsError(f"label set: class {category.name!r} has id {category.id}; expected 0..65534")

    def __iter__(self) -> Any:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: int) -> Category:
        return self.categories[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.categories == other.categories

    def __hash__(self) -> int:
        return hash(self.categories)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{c.id}={c.name}{'*' if c.is_thing else ''}" for c in self.categories)
        return f"LabelSet({kinds}; * thing)"

    @cached_property
    def things(self) -> tuple[int, ...]:
        """Indices of the thing classes, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if c.is_thing)

    @cached_property
    def stuff(self) -> tuple[int, ...]:
        """Indices of the stuff classes, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if not c.is_thing)

    @property
    def ignore(self) -> int:
        """The class index of pixels without a class."""
        return IGNORE

    def index_of(self, category_id: int) -> int:
        """Class index of the class that files call `category_id`; KeyError where there is none."""
        return {c.id: i for i, c in enumerate(self.categories)}[category_id]

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data, for YAML and JSON; `from_list` reads it back."""
        return [{"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)} for c in self]

    @classmethod
    def from_list(cls, rows: Iterable[Mapping[str, Any]]) -> LabelSet:
        """Build from rows with `id`, `name`, `isthing` and perhaps `color` (COCO panoptic's `categories`)."""
        categories = []
        for number, row in enumerate(rows):
            try:
                own = distinct_color(number)
                # Stuff is dark and nearly grey, so that objects are seen on it.
                color = row.get("color") or (own if row["isthing"] else [30 + channel // 5 for channel in own])
                red, green, blue = (int(channel) for channel in color)
                categories.append(Category(int(row["id"]), str(row["name"]), bool(row["isthing"]), (red, green, blue)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SettingsError(
                    f"class {number} of the label set: expected id, name, isthing and perhaps color [r, g, b], "
                    f"found {row!r}"
                ) from error
        return cls(categories)
