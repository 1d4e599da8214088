"""Which stored prediction belongs to which image, and what is said when there is none, two, or one of another size."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.errors import InputError
from panembed.evaluation.predictions.matching import match_predictions
from panembed.evaluation.predictions.stored import open_predictions
from panembed.evaluation.scores import evaluate_predictions
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

LEAVES = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
LEAF = np.kron([[0, 1, 0], [2, 0, 0]], np.ones((10, 8), int))
TRUTH = PanopticMap((LEAF > 0).astype(int), LEAF)


class Plants:
    """A data set of names: each image has two leaves, and no file."""

    label_set, root = LEAVES, Path("truth")

    def __init__(self, *ids):
        self.ids = list(ids)

    def __len__(self):
        return len(self.ids)

    def image_path(self, id):
        return self.root / f"{id}_rgb.png"

    def read_truth(self, id):
        return TRUTH


def named(tmp_path, *names, objects=LEAF):
    """Predictions under these names, each of them `objects`."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(objects.astype(np.uint8)).save(tmp_path / name)
    return open_predictions(tmp_path, LEAVES)


@pytest.mark.parametrize("name", ["plant000", "plant000_rgb", "A1/plant000", "A1/plant000_rgb", "out/A1/plant000_rgb"])
def test_names_that_fit(tmp_path, name):
    dataset = Plants("A1/plant000")
    matched = match_predictions(named(tmp_path, f"{name}.png"), dataset, dataset.ids)
    assert matched.place == {"A1/plant000": 0}


class Converted(Plants):
    """As written in another layout: photographs are called like their ids."""

    def image_path(self, id):
        return self.root / f"{id}.png"


@pytest.mark.parametrize("name", ["plant000_rgb", "A1/plant000_rgb", "plant000_leftImg8bit"])
def test_names_of_the_photographs_before_they_were_converted(tmp_path, name):
    dataset = Converted("A1/plant000")
    assert match_predictions(named(tmp_path, f"{name}.png"), dataset, dataset.ids).place == {"A1/plant000": 0}
    # Beside one that fits as it is, it is another file.
    both = match_predictions(named(tmp_path, "plant000.png"), dataset, dataset.ids)
    assert [both.predictions.path(both.place["A1/plant000"]).name, len(both.strange)] == ["plant000.png", 1]


@pytest.mark.parametrize(("spelt", "form"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_in_either_spelling(tmp_path, spelt, form):
    name = "Pr\u00e4parat"
    dataset = Plants(unicodedata.normalize(spelt, name))
    matched = match_predictions(named(tmp_path, unicodedata.normalize(form, name) + ".png"), dataset, dataset.ids)
    assert list(matched.place.values()) == [0]


@pytest.mark.parametrize("name", ["plant00", "A2/plant000", "plant0000", "xplant000", "A1/x/plant000"])
def test_names_that_do_not(tmp_path, name):
    dataset = Plants("A1/plant000")
    message = "has no prediction for A1/plant000; expected the name plant000 or plant000_rgb; no prediction has"
    with pytest.raises(InputError, match=message):
        match_predictions(named(tmp_path, f"{name}.png"), dataset, dataset.ids, allow_missing=True)


def test_a_name_for_two_images(tmp_path):
    dataset = Plants("A1/plant1", "A2/plant1")
    with pytest.raises(InputError, match="could be the prediction for A1/plant1 or for A2/plant1"):
        match_predictions(named(tmp_path / "a", "plant1.png"), dataset, ["A1/plant1"])
    matched = match_predictions(named(tmp_path / "b", "A1/plant1.png", "A2/plant1_rgb.png"), dataset, dataset.ids)
    assert matched.place == {"A1/plant1": 0, "A2/plant1": 1}


def test_two_predictions_for_an_image(tmp_path):
    dataset = Plants("A1/plant000")
    with pytest.raises(InputError, match="is a second prediction for A1/plant000"):
        match_predictions(named(tmp_path / "a", "plant000.png", "plant000_rgb.tif"), dataset, dataset.ids)
    with pytest.raises(InputError, match=r"plant000\.tif: has the same name as plant000\.png"):
        named(tmp_path / "b", "plant000.png", "plant000.tif")


def test_missing_and_strange(tmp_path):
    dataset = Plants("A1/plant000", "A1/plant001", "A1/plant002")
    stored = named(tmp_path, "plant001.png", "plant002.png", "other.png")
    with pytest.raises(InputError, match=r"no prediction for A1/plant000; .* --allow-missing"):
        match_predictions(stored, dataset, dataset.ids)
    matched = match_predictions(stored, dataset, dataset.ids, allow_missing=True)
    assert matched.missing == ("A1/plant000",)
    assert matched.strange == (tmp_path / "other.png",)
    assert (matched.read("A1/plant000", (2, 3)).semantic == IGNORE).all()
    # Predictions of images that aren't asked for are neither missing nor strange.
    matched = match_predictions(stored, dataset, ["A1/plant001"])
    assert (matched.missing, matched.strange) == ((), (tmp_path / "other.png",))


def test_missing_counts_as_empty(tmp_path):
    dataset = Plants("p0", "p1")
    matched = match_predictions(named(tmp_path, "p0.png"), dataset, dataset.ids, allow_missing=True)
    metrics = evaluate_predictions(matched, dataset, dataset.ids).metrics()
    assert {key: metrics["things"][key] for key in ("tp", "fp", "fn")} == {"tp": 2, "fp": 0, "fn": 2}
    assert {key: metrics["stuff"][key] for key in ("tp", "fp", "fn")} == {"tp": 1, "fp": 0, "fn": 1}


def test_another_size(tmp_path):
    dataset = Plants("A1/plant000")
    matched = match_predictions(named(tmp_path, "plant000.png", objects=LEAF[:10, :12]), dataset, dataset.ids)
    with pytest.raises(InputError, match=r"plant000\.png: is 12x10 pixels, but the truth of A1/plant000 is 24x20"):
        evaluate_predictions(matched, dataset, dataset.ids)
