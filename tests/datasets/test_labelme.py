"""LabelMe: against its own rule, `labelme.utils.shapes_to_label`, written out here."""

import base64
import io
import json
import math
import uuid

import numpy as np
import pytest
from layout_contract import LayoutContract, picture
from PIL import Image, ImageDraw

from panembed.datasets.layout import open_dataset
from panembed.errors import InputError
from panembed.labels.categories import IGNORE, Category, LabelSet

FIELD = LabelSet([Category(0, "background", False), Category(1, "crop", True), Category(2, "weed", True)])


def box(mask):
    rows, columns = np.nonzero(mask)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None} | more


class TestContract(LayoutContract):
    format = "labelme"
    label_set = FIELD

    def write(self, root, images):
        for id, (image, truth) in images.items():
            Image.fromarray(image).save(root / f"{id}.png")
            shapes = []
            for number in np.unique(truth.instance[truth.instance > 0]).tolist():
                mask = truth.instance == number
                left, top, right, bottom = box(mask)
                corners = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
                shapes.append(shape(FIELD[int(truth.semantic[mask][0])].name, corners))
            self.save(root, id, image, shapes)

    def save(self, root, id, image, shapes):
        height, width = image.shape[:2]
        size = {"imageHeight": height, "imageWidth": width}
        data = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{id}.png", "imageData": None} | size
        (root / f"{id}.json").write_text(json.dumps(data))


def shape_to_mask(size, points, kind):
    """labelme.utils.shape_to_mask (wkentaro/labelme), for what has an area."""
    canvas = Image.fromarray(np.zeros(size, np.uint8))
    draw = ImageDraw.Draw(canvas)
    xy = [tuple(point) for point in points]
    if kind == "circle":
        (cx, cy), (px, py) = xy
        d = math.sqrt((cx - px) ** 2 + (cy - py) ** 2)
        draw.ellipse([cx - d, cy - d, cx + d, cy + d], outline=1, fill=1)
    elif kind == "rectangle":
        draw.rectangle(xy, outline=1, fill=1)
    else:
        draw.polygon(xy=xy, outline=1, fill=1)
    return np.array(canvas, dtype=bool)


def shapes_to_label(size, shapes, values):
    """labelme.utils.shapes_to_label."""
    cls, ins, instances = np.zeros(size, np.int32), np.zeros(size, np.int32), []
    for row in shapes:
        group = row["group_id"] if row["group_id"] is not None else uuid.uuid1()
        if (row["label"], group) not in instances:
            instances.append((row["label"], group))
        mask = shape_to_mask(size, row["points"], row["shape_type"])
        cls[mask], ins[mask] = values[row["label"]], instances.index((row["label"], group)) + 1
    return cls, ins


def folder(root, shapes, size=(40, 50), name="a"):
    root.mkdir(exist_ok=True)
    Image.fromarray(picture(0, size)).save(root / f"{name}.jpg")
    TestContract().save(root, name, np.zeros(size, np.uint8), shapes)
    return root


@pytest.mark.parametrize("seed", range(25))
def test_label_maps_of_labelme(tmp_path, seed):
    rng = np.random.default_rng(seed)
    size, shapes = (40, 50), []
    for _ in range(9):
        kind = rng.choice(["polygon", "polygon", "circle", "rectangle"])
        count = {"polygon": int(rng.integers(3, 9))}.get(kind, 2)
        points = rng.uniform(-5, 50, (count, 2)).round(int(rng.integers(0, 4)))
        if kind == "rectangle":
            points = np.array([points.min(0), points.max(0)])
        group = [None, None, 1, 2][rng.integers(0, 4)]
        shapes.append(shape(str(rng.choice(["weed", "crop"])), points.tolist(), str(kind), group_id=group))
    dataset = open_dataset(
        folder(
            tmp_path / "d",
            [*shapes, shape("crop", [[49, 39], [49, 39], [49, 39]]), shape("weed", [[48, 39], [48, 39], [48, 39]])],
        )
    )
    shapes = json.loads((tmp_path / "d/a.json").read_text())["shapes"]
    cls, ins = shapes_to_label(size, shapes, {"crop": 1, "weed": 2})
    truth = dataset.read_truth("a")
    assert np.array_equal(truth.semantic, cls)
    pairs = np.unique(np.stack([truth.instance, ins]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == len(np.unique(ins)) == len(np.unique(truth.instance))


def test_masks_background_and_ignore(tmp_path):
    drawn = np.zeros((4, 5), bool)
    drawn[1:3, 1:4], drawn[0, 0] = True, True
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, format="PNG")
    text = base64.b64encode(file.getvalue()).decode()
    shapes = [
        shape("crop", [[10.2, 20.9], [14, 23]], "mask", mask=text),
        shape("_background_", [[10, 20], [10, 20], [10, 20]]),
        shape("__ignore__", [[40, 30], [45, 30], [45, 35]]),
        shape("crop", [[1, 1]], "point"),
        shape("crop", [[1, 1], [5, 5]], "line"),
    ]
    dataset = open_dataset(folder(tmp_path / "d", shapes))
    truth = dataset.read_truth("a")
    expected = np.zeros((40, 50), bool)
    expected[20:24, 10:15] = drawn
    expected[20, 10] = False
    assert np.array_equal(truth.instance > 0, expected)
    assert np.array_equal(truth.semantic == IGNORE, shape_to_mask((40, 50), shapes[2]["points"], "polygon"))
    assert dataset.losses("a") == {"points and lines": 2}


def test_classes_in_the_order_of_labels_txt(tmp_path):
    root = folder(tmp_path / "d", [shape("crop", [[1, 1], [9, 1], [9, 9]])])
    (root / "labels.txt").write_text("__ignore__\n_background_\nweed\ncrop\n")
    assert [(c.id, c.name) for c in open_dataset(root).label_set] == [(0, "background"), (1, "weed"), (2, "crop")]


def test_images_not_yet_labelled_are_left_out(tmp_path):
    root = folder(tmp_path / "d", [shape("crop", [[1, 1], [9, 1], [9, 9]])])
    Image.fromarray(picture(1, (8, 8))).save(root / "b.jpg")
    dataset = open_dataset(root)
    assert (dataset.ids, dataset.left_out) == (["a"], ("b",))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": "crop", "points": [[1, 1], [2, 2]]}, "polygon of 2 points; expected 3 or more"),
        ({"label": "crop", "points": [[1, 1], [2, "x"], [3, 3]]}, "has points"),
        ({"label": "crop", "points": [[1, 1], [2, 1e300], [3, 3]]}, "within 1e"),
        ({"label": "crop", "points": [[1, 1], [2, 2]], "shape_type": "cube"}, "shape_type 'cube'; expected one of"),
        ({"label": "", "points": []}, "has no label"),
        ({"label": "crop", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "AAAA"}, "a mask that is no PNG"),
        ({"label": "crop", "points": [[1, 1], [2, 2], [3, 3]], "shape_type": "circle"}, "circle of 3 points"),
    ],
)
def test_malformed_shapes(tmp_path, row, said):
    root = folder(tmp_path / "d", [shape("crop", [[1, 1], [9, 1], [9, 9]]), row])
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(root).read_truth("a")
    assert "a.json: shapes[1]" in str(caught.value)
