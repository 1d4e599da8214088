"""An experiment from what its file holds."""

from __future__ import annotations

import pytest
import yaml

from panembed.experiments.plan import Experiment


@pytest.fixture
def load(tmp_path):
    def load(data):
        path = tmp_path / "experiment.yaml"
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        return Experiment.load(path)

    return load
