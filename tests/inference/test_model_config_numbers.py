"""Figures that JSON has no words for."""

import json
import math

import pytest

from panembed.inference.model_config import ModelConfig, read_config, write_config
from panembed.inference.model_folder import SHIPPED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_no_numbers_are_null(tmp_path, value):
    shipped = read_config(SHIPPED / "nuclei")
    write_config(tmp_path, ModelConfig(shipped.settings, shipped.categories, shipped.split, {"val_loss": value}))
    assert json.loads((tmp_path / "config.json").read_text())["metrics"] == {"val_loss": None}
    assert read_config(tmp_path).metrics == {"val_loss": None}
