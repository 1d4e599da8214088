"""Models that are loaded with other settings than their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from panembed import trained_model
from panembed.errors import SettingsError


def test_overrides_are_taken(tiny_model: Path) -> None:
    loaded = trained_model.load(tiny_model, overrides=["grouping.bandwidth=0.7", "grouping.min_area=9"])
    assert (loaded.grouping.bandwidth, loaded.grouping.min_area) == (0.7, 9)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["grouping.least_seed=0.6"],
            r"least_seed=0.6': has no effect with grouping.method mean_shift, which",
        ),
        (
            ["grouping.bandwidth=2", "grouping.method=components"],
            r"bandwidth=2': has no effect with grouping.method compo",
        ),
        (["grouping.by_class.leaf.own_share=0.5"], r"own_share=0.5': has no effect"),
        (["input.fit=native", "input.size=[64, 64]"], r"'input.size=\[64, 64\]': has no effect with input.fit native"),
    ],
)
def test_what_would_have_no_effect_is_refused(tiny_model: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        trained_model.load(tiny_model, overrides=overrides)


def test_the_shipped_leaf_has_no_bandwidth_to_set() -> None:
    with pytest.raises(SettingsError, match=r"grouping.method seed_map, which heeds .*least_seed.*; leave it out"):
        trained_model.load("leaf", overrides=["grouping.bandwidth=2"])
