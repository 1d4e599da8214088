"""How errors look and what they are called, in figures and in the report alike.

The colours are those of Okabe and Ito (2008), "Color Universal Design", which people who don't tell red from green tell
apart, but for a darker purple; what is missed or doesn't count is grey. Objects of the same figures are paler
(`paler`), so none looks like an error. Errors have patterns, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ERROR_COLORS: Mapping[str, str] = {
    "found": "#009e73",
    "merged": "#d55e00",
    "split": "#0072b2",
    "boundary": "#e69f00",
    "wrong_class": "#aa4499",
    "missed": "#999999",
    "spurious": "#f0e442",
    "ignored": "#595959",
}
"""Of true objects, and of predicted ones; see `panembed.metrics.error_census.classify_objects`."""

TRUE_NAMES: Mapping[str, str] = {"merged": "merged with another", "split": "in pieces", "boundary": "bad outline"}
"""What a label says of a true object, where it isn't its own name."""

PREDICTED_NAMES: Mapping[str, str] = {"merged": "holds several", "split": "a piece", "boundary": "bad outline"}
"""What it says of a predicted one."""


HATCHES: Mapping[str, str] = {
    "merged": "////",
    "split": "----",
    "boundary": "||||",
    "wrong_class": "xxxx",
    "spurious": "....",
}
"""Matplotlib's pattern of a label; what is found has none."""

_PALENESS = 0.6
"""Share of white in the colours of objects."""


def paler(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of objects as they stand beside errors, which have a channel below all of theirs.

    >>> paler(np.array([[0, 100, 255]], np.uint8)).tolist()
    [[153, 193, 255]]
    """
    return (255 - (1 - _PALENESS) * (255 - colors.astype(np.float32))).astype(np.uint8)


def pattern(label: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of an HxW picture that are darker where an object has this label, as `HATCHES` has it in legends.

    >>> bool(pattern("found", (20, 20)).any()), pattern("split", (4, 2))[:, 0].tolist()
    (False, [True, False, False, False])
    """
    y, x = np.indices(shape, sparse=True)
    line = max(1, round(max(shape) / 400))
    period = 4 * line
    stripes = {
        "merged": (x + y) % period < line,
        "split": (y + 0 * x) % period < line,
        "boundary": (x + 0 * y) % period < line,
        "wrong_class": ((x + y) % period < line) | ((x - y) % period < line),
        "spurious": (y % period < 2 * line) & (x % period < 2 * line),
    }
    return stripes.get(label, np.zeros(shape, dtype=bool))


def error_name(label: str, names: Mapping[str, str]) -> str:
    """What a label is called: as `names` has it, or itself.

    >>> error_name("merged", PREDICTED_NAMES), error_name("wrong_class", TRUE_NAMES)
    ('holds several', 'wrong class')
    """
    return names.get(label, label.replace("_", " "))
