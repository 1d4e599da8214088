"""JSON of other tools with anything anywhere: an InputError or an answer, no other exception, no look outside."""

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

pytestmark = pytest.mark.slow  # hundreds of broken files

POLYGON = [[1, 1], [6, 1], [6, 5], [1, 5]]
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 9}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 6, 1, 6, 5, 1, 5]]},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [8, 9], "counts": [10, 3, 59]}},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [8, 9], "counts": "22T2"}},
    ],
    "categories": [{"id": 1, "name": "crop", "color": [1, 2, 3]}, {"id": 2, "name": "weed"}],
}
LABELME = {
    "version": "5.4.1",
    "shapes": [
        {"label": "crop", "points": POLYGON, "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "weed", "points": [[2, 2], [4, 4]], "group_id": 1, "shape_type": "circle"},
        {"label": "weed", "points": [[2, 2], [4, 4]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ],
    "imagePath": "a.png",
    "imageHeight": 8,
    "imageWidth": 9,
}
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [POLYGON]},
            "properties": {"classification": {"name": "crop", "color": [1, 2, 3]}, "measurements": {"a": 1}},
        },
        {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[POLYGON]]}, "properties": {}},
    ],
}
WHOLE = {"coco": ("truth.json", COCO), "labelme": ("a.json", LABELME), "geojson": ("a.geojson", GEOJSON)}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x.png", "/etc/hostname", "", 2**70, -(2**70), 1e308, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spots(value, path=()):
    """Every place that can be replaced or removed."""
    found = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += spots(inner, (*path, key))
    return found


@pytest.mark.parametrize("format", WHOLE)
@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_anything_anywhere(format, data):
    name, whole = WHOLE[format]
    content = json.loads(json.dumps(whole))
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(spots(content)))
        place = content
        for key in way:
            place = place[key]
        if data.draw(st.integers(0, 3)) == 0:
            del place[last]
        else:
            place[last] = data.draw(ANYTHING)
        if not spots(content):
            break
    with tempfile.TemporaryDirectory() as outer:
        root = Path(outer) / "data"
        root.mkdir()
        for picture in (root / "a.png", Path(outer) / "x.png"):
            Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(picture)
        (root / name).write_text(json.dumps(content))
        opened = []
        true_open = builtins.open

        def watched(file, *arguments, **options):
            if not isinstance(file, int):
                opened.append(os.path.realpath(file))
            return true_open(file, *arguments, **options)

        builtins.open = watched
        try:
            census = take_census(open_dataset(root, format))
            said = list(census.broken.values())
        except InputError as error:
            said = [str(error)]
        finally:
            builtins.open = true_open
        assert not any("\n" in reason or len(reason) > 5000 for reason in said)
        inside = os.path.realpath(root) + os.sep
        assert not [path for path in opened if path.endswith(("x.png", "hostname")) and not path.startswith(inside)]
