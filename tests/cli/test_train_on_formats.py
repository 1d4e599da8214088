"""`panembed train --data` on what other tools write, in one command, without a hand on the files."""

import json

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset

pytestmark = pytest.mark.slow  # trains networks, tiny as they are

PLANTS = SyntheticDataset(6, size=64)


def objects(truth):
    return [(number, truth.instance == number) for number in np.unique(truth.instance[truth.instance > 0]).tolist()]


def coco(root):
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "leaf"}]}
    for number, id in enumerate(PLANTS.ids):
        sample = PLANTS.load(id)
        Image.fromarray(sample.image).save(root / f"{id}.jpg")
        data["images"].append({"id": number, "file_name": f"{id}.jpg", "height": 64, "width": 64})
        for _, mask in objects(sample.truth):
            rows, columns = np.nonzero(mask)
            x, y, right, bottom = (int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            polygon = [x, y, right, y, right, bottom, x, bottom]
            row = {"id": len(data["annotations"]), "image_id": number, "category_id": 1, "iscrowd": 0}
            data["annotations"].append(row | {"segmentation": [polygon]})
    (root / "_annotations.coco.json").write_text(json.dumps(data))


def bowl(root):
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        for folder in ("images", "masks"):
            (root / id / folder).mkdir(parents=True)
        Image.fromarray(sample.image).convert("RGBA").save(root / f"{id}/images/{id}.png")
        for number, mask in objects(sample.truth):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{id}/masks/{number:04}.png")


@pytest.mark.parametrize("write", [coco, bowl])
def test_train_and_evaluate(cli, tmp_path, tiny_config, write):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    arguments = ("--config", tiny_config, "--data", tmp_path / "data", "--output", tmp_path / "run", "--device", "cpu")
    outcome = cli("train", *arguments, "--set", "training.epochs=2")
    assert outcome.code == 0, outcome.err
    outcome = cli(
        *("evaluate", "--model", tmp_path / "run", "--data", tmp_path / "data", "--output", tmp_path / "scores"),
        *("--device", "cpu"),
    )
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "scores/metrics.json").read_text())
    dataset = open_dataset(tmp_path / "data")
    assert all(dataset.read_truth(id).num_instances for id in dataset.ids)
