"""`panembed train --data` on what other tools write, in one command, without a hand on the files."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi, roiwrite

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


def corners(mask):
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = (int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(root):
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        Image.fromarray(sample.image).save(root / f"{id}.jpg")
        shapes = [{"label": "leaf", "points": corners(m), "shape_type": "polygon"} for _, m in objects(sample.truth)]
        data = {"shapes": shapes, "imagePath": f"{id}.jpg", "imageHeight": 64, "imageWidth": 64}
        (root / f"{id}.json").write_text(json.dumps(data))


def yolo(root):
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    (root / "data.yaml").write_text("names: {0: leaf}\n")
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        Image.fromarray(sample.image).save(root / f"images/train/{id}.jpg")
        fractions = [(np.array(corners(mask)) / 64).ravel().tolist() for _, mask in objects(sample.truth)]
        lines = [" ".join(["0", *map(str, numbers)]) for numbers in fractions]
        (root / f"labels/train/{id}.txt").write_text("\n".join(lines))


def rois(root):
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        tifffile.imwrite(root / f"{id}.tif", sample.image, photometric="rgb")
        regions = [ImagejRoi.frompoints(np.array(corners(m)), name=str(n)) for n, m in objects(sample.truth)]
        roiwrite(root / f"{id}_RoiSet.zip", regions)


def geojson(root):
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        Image.fromarray(sample.image).save(root / f"{id}.png")
        rows = [
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners(mask)]}, "properties": {}}
            for _, mask in objects(sample.truth)
        ]
        (root / f"{id}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": rows}))


def stacks(root):
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for id in PLANTS.ids:
        sample = PLANTS.load(id)
        Image.fromarray(sample.image).save(root / f"images/{id}.png")
        pages = np.array([mask for _, mask in objects(sample.truth)], np.uint8)
        tifffile.imwrite(root / f"masks/{id}.tif", pages, photometric="minisblack")


@pytest.mark.parametrize("write", [coco, bowl, labelme, yolo, rois, geojson, stacks])
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
