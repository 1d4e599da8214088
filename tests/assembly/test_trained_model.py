"""Models that are loaded with other settings than their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from panembed.assembly import build, trained_model
from panembed.datasets.cvppp import LEAVES
from panembed.errors import SettingsError
from panembed.settings.schema import Settings


def test_overrides_are_taken(tiny_model: Path) -> None:
    loaded = trained_model.load(tiny_model, overrides=["grouping.bandwidth=0.7", "grouping.min_area=9"])
    assert (loaded.grouping.bandwidth, loaded.grouping.min_area) == (0.7, 9)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["grouping.least_seed=0.6"],
            r"least_seed=0.6': grouping.least_seed has no effect with grouping.method m",
        ),
        (
            ["grouping.bandwidth=2", "grouping.method=components"],
            r"grouping.bandwidth has no effect with grouping.method compo",
        ),
        (["grouping.by_class.leaf.own_share=0.5"], r"grouping.by_class.leaf.own_share has no effect"),
        (
            ["input.fit=native", "input.size=[64, 64]"],
            r"'input.size=\[64, 64\]': input.size has no effect with in",
        ),
        (["grouping={method: components, bandwidth: 0.4}"], r"bandwidth: 0.4}': grouping.bandwidth has no effect with"),
        (["grouping.by_class={leaf: {own_share: 0.4}}"], r"grouping.by_class.leaf.own_share has no effect with"),
    ],
)
def test_what_would_have_no_effect_is_refused(tiny_model: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        trained_model.load(tiny_model, overrides=overrides)


@pytest.mark.parametrize(
    "override", ["grouping={method: components, min_area: 9}", "grouping.recount=null", "input={fit: native, scale: 2}"]
)
def test_whole_sections_and_nothing_are_no_mistake(tiny_model: Path, override: str) -> None:
    loaded = trained_model.load(tiny_model, overrides=[override])
    assert loaded.grouping.min_area in (9, trained_model.load(tiny_model).grouping.min_area)


def test_a_recount_that_is_not_made_is_no_hindrance(tiny_model: Path, tmp_path: Path) -> None:
    """Training lets mean shift have one, with a note."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["settings"]["grouping"]["recount"] = 1.0
    (model / "config.json").write_text(json.dumps(config))
    assert trained_model.load(model, overrides=["input.size=[32, 32]"]).preparation.size == (32, 32)


def test_mistakes_of_a_class_name_it() -> None:
    settings = Settings.from_mapping(
        {"grouping": {"bandwidth": 1.5, "seed_bandwidth": 1.2, "by_class": {"leaf": {"bandwidth": 1.0}}}}
    )
    with pytest.raises(SettingsError, match=r"grouping\.by_class\.leaf: grouping\.seed_bandwidth: expected"):
        build.grouping(settings.grouping, LEAVES)


def test_the_shipped_leaf_has_no_bandwidth_to_set() -> None:
    with pytest.raises(SettingsError, match=r"grouping.method seed_map, which heeds .*least_seed.*; leave it out"):
        trained_model.load("leaf", overrides=["grouping.bandwidth=2"])
