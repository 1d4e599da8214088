"""Damaged and hostile data sets, beside what `layout_contract` tries: an InputError or a right answer, nothing else."""

import builtins
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from panembed.datasets.census import take_census
from panembed.datasets.layout import open_dataset
from panembed.errors import InputError
from panembed.io.cityscapes import CITYSCAPES, decode_instance_ids
from panembed.io.coco_panoptic import encode_ids

pytestmark = pytest.mark.slow  # hundreds of broken files

FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SEMANTIC = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [0, 0, 2, 0]])
LABELS = {
    "cvppp": SEMANTIC.astype(np.uint8),
    "cityscapes": np.choose(SEMANTIC, [7, 26000, 26]).astype(np.uint16),
    "coco-panoptic": encode_ids(SEMANTIC),
    "coco-panoptic-2channel": np.dstack([np.choose(SEMANTIC, [0, 5, 6]), 0 * SEMANTIC, 0 * SEMANTIC]).astype(np.uint8),
    "folder": SEMANTIC.astype(np.uint16),
}
COCO = ("coco-panoptic", "coco-panoptic-2channel")
PLACES = {
    "cvppp": ("plant1_rgb.png", "plant1_label.png"),
    "cityscapes": ("leftImg8bit/train/a/x_leftImg8bit.png", "gtFine/train/a/x_gtFine_instanceIds.png"),
    "coco-panoptic": ("images/x.png", "panoptic/x.png"),
    "coco-panoptic-2channel": ("images/x.png", "panoptic/x.png"),
    "folder": ("images/x.png", "labels/x.png"),
}
JSON = {
    "images": [{"id": 1, "file_name": "x.png", "width": 4, "height": 3}],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "x.png",
            "segments_info": [
                {"id": 1, "category_id": 5, "iscrowd": 0, "area": 3, "bbox": [2, 0, 2, 2]},
                {"id": 2, "category_id": 6, "iscrowd": 1, "area": 3, "bbox": [1, 1, 2, 2]},
            ],
        }
    ],
    "categories": [
        {"id": 5, "name": "crop", "isthing": 1, "color": [1, 2, 3]},
        {"id": 6, "name": "weed", "isthing": 1},
    ],
}


def make(root: Path, layout: str, label=None, image=None) -> tuple[Path, Path]:
    image_path, label_path = (root / place for place in PLACES[layout])
    for path in (image_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    label = LABELS[layout] if label is None else label
    Image.fromarray(label).save(label_path)
    size = label.shape[:2]
    Image.fromarray(np.zeros((*size, 3), np.uint8) if image is None else image).save(image_path)
    if layout in COCO:
        (root / "panoptic.json").write_text(json.dumps(JSON))
    return image_path, label_path


def look_at(root: Path, layout: str = "auto", **options) -> str:
    """Open and read everything; the message of the first mistake, or nothing."""
    try:
        dataset = open_dataset(root, layout, **options)
        census = take_census(dataset)
    except InputError as error:
        return str(error)
    assert census.images + len(census.broken) == len(dataset)
    return next(iter(census.broken.values()), "")


@pytest.mark.parametrize("layout", LABELS)
@FUZZ
@given(data=st.data())
def test_labels_of_any_mode_size_and_number(layout, data):
    mode = data.draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"]))
    height, width = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    with tempfile.TemporaryDirectory() as folder:
        _, label_path = make(Path(folder), layout, image=np.zeros((3, 4, 3), np.uint8))
        if mode in ("I;16", "I", "F"):
            dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
            picture = Image.fromarray(rng.integers(0, 65_536, (height, width)).astype(dtype))
        else:
            picture = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).convert(mode)
        kind = "TIFF" if mode in ("I", "F", "CMYK") else "PNG"
        picture.save(label_path, format=kind)
        said = look_at(Path(folder), layout)
        if (height, width) != (3, 4):
            assert said


@pytest.mark.parametrize("layout", LABELS)
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_very_long_images(layout, shape, tmp_path):
    label = np.tile(LABELS[layout].reshape(12, -1), (100_000 // 12 + 1, 1))[:100_000]
    label = label.reshape(*shape, 3) if layout in COCO else label.reshape(shape)
    make(tmp_path, layout, label)
    if layout in COCO:
        data = json.loads(json.dumps(JSON))
        data["images"][0].update(width=shape[1], height=shape[0])
        (tmp_path / "panoptic.json").write_text(json.dumps(data))
    assert look_at(tmp_path, layout) == ""


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x.png", "/etc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spots(value, path=()):
    """Every place in a JSON that can be replaced or removed."""
    found = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += spots(inner, (*path, key))
    return found


@settings(FUZZ, max_examples=80)
@given(data=st.data())
def test_json_with_missing_keys_and_wrong_types(data):
    content = json.loads(json.dumps(JSON))
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(spots(content)))
        place = content
        for key in way:
            place = place[key]
        if data.draw(st.booleans()):
            del place[last]
        else:
            place[last] = data.draw(ANYTHING)
        if not spots(content):
            break
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), "coco-panoptic")
        (Path(folder) / "panoptic.json").write_text(json.dumps(content))
        look_at(Path(folder), "coco-panoptic", json_file="panoptic.json")


@FUZZ
@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "/", "\\", "C:", "~", "etc", "x.png", "\0", "é"]), max_size=5),
    st.sampled_from(["images", "annotations"]),
)
def test_no_name_leads_outside(parts, where):
    content = json.loads(json.dumps(JSON))
    content[where][0]["file_name"] = "/".join(parts)
    with tempfile.TemporaryDirectory() as outer:
        root = Path(outer) / "data"
        make(root, "coco-panoptic")
        Image.fromarray(LABELS["coco-panoptic"]).save(Path(outer) / "x.png")
        (root / "panoptic.json").write_text(json.dumps(content))
        opened: list[str] = []
        true_open = builtins.open

        def watched(file, *arguments, **options):
            if not isinstance(file, int):
                opened.append(os.path.realpath(file))
            return true_open(file, *arguments, **options)

        builtins.open = watched
        try:
            look_at(root, "coco-panoptic")
        finally:
            builtins.open = true_open
        inside = os.path.realpath(root) + os.sep
        assert not [path for path in opened if path.endswith(".png") and not path.startswith(inside)]


@FUZZ
@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 34_000), min_size=1, max_size=6))
def test_numbers_of_cityscapes(numbers):
    array = np.array([numbers], np.int32)
    try:
        truth = decode_instance_ids(array)
    except InputError:
        return
    for value, index, instance in zip(numbers, truth.semantic[0].tolist(), truth.instance[0].tolist()):
        if index == 255:
            assert instance == 0
            continue
        category = CITYSCAPES[index]
        assert category.id == (value // 1000 if value >= 1000 else value)
        assert instance == (value % 1000 + 1 if value >= 1000 else 0)
