"""How errors look and what they are called, in figures and in the report alike.

The colours are those of Okabe and Ito (2008), "Color Universal Design", which people who don't tell red from green tell
apart; what is missed or doesn't count is grey.
"""

from __future__ import annotations

from collections.abc import Mapping

ERROR_COLORS: Mapping[str, str] = {
    "found": "#009e73",
    "merged": "#d55e00",
    "split": "#0072b2",
    "boundary": "#e69f00",
    "wrong_class": "#cc79a7",
    "missed": "#999999",
    "spurious": "#f0e442",
    "ignored": "#595959",
}
"""Of true objects, and of predicted ones; see `panembed.metrics.error_census.classify_objects`."""

TRUE_NAMES: Mapping[str, str] = {"merged": "merged with another", "split": "in pieces", "boundary": "bad outline"}
"""What a label says of a true object, where it isn't its own name."""

PREDICTED_NAMES: Mapping[str, str] = {"merged": "holds several", "split": "a piece", "boundary": "bad outline"}
"""What it says of a predicted one."""


def error_name(label: str, names: Mapping[str, str]) -> str:
    """What a label is called: as `names` has it, or itself.

    >>> error_name("merged", PREDICTED_NAMES), error_name("wrong_class", TRUE_NAMES)
    ('holds several', 'wrong class')
    """
    return names.get(label, label.replace("_", " "))
