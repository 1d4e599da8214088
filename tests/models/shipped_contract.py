"""What must be true of every model that comes with the package. A new one gets its tests by a class of ten lines:

class TestRosettes(ShippedModelContract):
    name = "rosettes"

    def picture(self):
        return an HxWx3 uint8 image in which it finds objects
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import panembed
from panembed.errors import ModelError
from panembed.evaluation.model_check import FOLDER, OUTPUTS, compare_outputs
from panembed.inference.model_config import read_config
from panembed.inference.model_folder import resolve_model_folder, shipped_folder
from panembed.inference.predictor import PanopticModel
from panembed.io.images import write_png
from panembed.io.label_images import read_label_image
from panembed.settings.schema import Settings

SECTIONS = (
    "What it is for", "What it is not for", "Data", "Terms of the data", "Citation", "Split and seed", "Scores", "Size",
    "Speed", "Where it fails", "Licence", "Use",
)  # fmt: skip


class ShippedModelContract:
    """Derive, set `name`, and define `picture`."""

    name: str

    def picture(self) -> np.ndarray:
        """An image, HxWx3 uint8, in which the model finds objects."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        return shipped_folder(self.name)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> PanopticModel:
        return panembed.load(cls.name, device="cpu")

    def test_is_found_by_its_name(self) -> None:
        assert resolve_model_folder(self.name) == self.folder

    def test_is_small(self) -> None:
        assert sum(path.stat().st_size for path in self.folder.rglob("*")) < 25e6

    def test_its_card_says_all_that_a_card_must(self) -> None:
        card = (self.folder / "README.md").read_text(encoding="utf-8")
        positions = [card.index(f"\n## {heading}\n\n") for heading in SECTIONS]
        assert positions == sorted(positions)

    def test_its_settings_are_settings_of_today(self) -> None:
        config = read_config(self.folder)
        Settings.from_mapping(config.settings, "config.json")
        assert any(category["isthing"] for category in config.categories)

    def test_was_scored_on_images_that_it_never_saw(self) -> None:
        config = read_config(self.folder)
        assert config.metrics["held_out"]["images"] == len(config.split["test"]) > 0
        assert not set(config.split["test"]) & {*config.split["train"], *config.split["val"]}

    def test_its_weights_are_finite_and_no_pickle(self) -> None:
        with safe_open(self.folder / "model.safetensors", framework="np") as weights:
            assert all(np.isfinite(weights.get_tensor(key)).all() for key in weights.keys())  # noqa: SIM118

    @pytest.mark.slow
    def test_finds_objects(self, model: PanopticModel) -> None:
        image = self.picture()
        result = model.predict(image)
        assert result.panoptic.shape == image.shape[:2]
        assert sum(result.counts().values()) > 0

    @pytest.mark.slow
    @pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 31)])
    def test_takes_images_of_any_size(self, model: PanopticModel, shape: tuple[int, int]) -> None:
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert model.predict(image).panoptic.shape == shape

    @pytest.mark.slow
    def test_gives_what_is_stored(self, model: PanopticModel) -> None:
        """Within the tolerances of `panembed.evaluation.model_check`."""
        compared = compare_outputs(model, self.folder)
        assert len(compared) == 3
        assert [one.fault for one in compared] == [None] * 3
        assert sum(one.objects for one in compared) > 10

    @pytest.mark.slow
    def test_what_is_stored_can_be_told_from_something_else(self, model: PanopticModel, tmp_path: Path) -> None:
        shutil.copytree(self.folder / FOLDER, tmp_path / FOLDER)
        first, second, third = sorted((tmp_path / FOLDER).glob("*_instances.png"))
        objects = read_label_image(first)
        write_png(first, np.where(objects == objects.max(), 0, objects).astype(np.uint16))  # one less
        shifted = np.roll(read_label_image(second), 3, axis=0)
        write_png(second, shifted.astype(np.uint16))
        picture = third.with_name(third.name.replace("_instances", ""))
        write_png(picture, self.picture()[:256, :256])
        write_png(third, np.zeros(self.picture()[:256, :256].shape[:2], np.uint16))
        faults = [one.fault or "" for one in compare_outputs(model, tmp_path)]
        assert "objects, and" in faults[0]
        assert "lie in the same object" in faults[1]
        assert "outputs differ" in faults[2]

    @pytest.mark.slow
    def test_damaged_files_are_told_in_a_sentence(self, model: PanopticModel, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no such file"):
            compare_outputs(model, tmp_path)
        shutil.copytree(self.folder / FOLDER, tmp_path / FOLDER)
        outputs = tmp_path / FOLDER / OUTPUTS
        whole = outputs.read_text()
        for text in (
            whole[: len(whole) // 2],
            "[]",
            '{"grid": 48, "pictures": {}}',
            '{"grid": 48, "pictures": {"a": 1}}',
        ):
            outputs.write_text(text)
            with pytest.raises(
                ModelError, match=r"outputs\.json: does not hold stored outputs .*install panembed again"
            ):
                compare_outputs(model, tmp_path)
        outputs.write_text(whole)
        next((tmp_path / FOLDER).glob("*_instances.png")).unlink()
        with pytest.raises(ModelError, match="install panembed again"):
            compare_outputs(model, tmp_path)
