"""Every shipped model keeps the contract, and `panembed info --check` says so."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from shipped_contract import ShippedModelContract

from panembed.datasets.samples import sample_nuclei
from panembed.datasets.synthetic import SyntheticDataset
from panembed.evaluation.model_check import FOLDER
from panembed.inference import model_folder
from panembed.inference.model_folder import shipped_folder, shipped_names
from panembed.io.images import write_png


class TestNuclei(ShippedModelContract):
    name = "nuclei"

    def picture(self) -> np.ndarray:
        return sample_nuclei().read_image(sample_nuclei().ids[0])


class TestLeaf(ShippedModelContract):
    """The rosettes are drawn, and look like plants from above."""

    name = "leaf"

    def picture(self) -> np.ndarray:
        return SyntheticDataset(1, size=256).load(SyntheticDataset(1, size=256).ids[0]).image


def test_no_model_is_left_out() -> None:
    assert sorted(kind.name for kind in ShippedModelContract.__subclasses__()) == shipped_names()


@pytest.mark.slow
def test_info_checks_the_models(cli, monkeypatch, tmp_path) -> None:
    shutil.copytree(shipped_folder("nuclei"), tmp_path / "nuclei")
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path)
    outcome = cli("info", "--check")
    assert (outcome.code, outcome.err) == (0, "")
    assert "model nuclei: the same result as stored on 3 pictures" in outcome.out
    write_png(tmp_path / "nuclei" / FOLDER / "nuclei-1_instances.png", np.zeros((256, 256), np.uint16))
    outcome = cli("info", "--check")
    assert outcome.code == 1
    assert "model nuclei: ANOTHER RESULT" in outcome.out
    assert "model nuclei, nuclei-1.png: 36 objects, and 0 are stored" in outcome.sentence()


def test_options_of_info_that_have_no_effect(cli) -> None:
    assert cli("info", "--settings", "--check").code == 2
    assert "no effect without --check" in cli("info", "--device", "cpu").sentence()
