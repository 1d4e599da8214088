"""The page of all settings: nothing is left out or unexplained, and docs/settings.md is of today."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel

from panembed.settings.page import settings_page
from panembed.settings.schema import Settings

ROOT = Path(__file__).parents[2]


def test_the_documentation_is_the_page() -> None:
    assert (ROOT / "docs/settings.md").read_text() == settings_page(), "write it anew: panembed info --settings"


def test_every_setting_is_there_with_its_default_and_a_meaning() -> None:
    rows = {}
    for line in settings_page().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            # The one bar within a cell would be a union of kinds; there is none.
            name, kind, default, what = line.strip("| ").split(" | ")
            assert kind
            assert len(what) > 7, line
            rows[section, name.strip("`")] = yaml.safe_load(default)
    data = Settings().model_dump(mode="json")
    expected = {
        (section, name): default
        for section, field in Settings.model_fields.items()
        if issubclass(field.annotation if isinstance(field.annotation, type) else type(None), BaseModel)
        for name, default in data[section].items()
    }
    assert rows == expected


def test_info_prints_it(cli) -> None:
    assert cli("info", "--settings").out == settings_page()
