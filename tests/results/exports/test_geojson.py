"""GeoJSON, read and filled by shapely."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from export_contract import FIELD, ExportContract, torn
from numpy.typing import NDArray

from panembed.results.result import PanopticResult


class TestGeoJson(ExportContract):
    format = "geojson"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        content = json.loads((folder / f"{result.name}_objects.geojson").read_text(encoding="utf-8"))
        y, x = np.indices(result.panoptic.shape) + 0.5
        masks = []
        for feature, segment in zip(content["features"], result.objects, strict=True):
            shape = shapely.geometry.shape(feature["geometry"])
            assert shape.is_valid, shapely.is_valid_reason(shape)
            assert shape.area == segment.area
            masks.append(shapely.contains_xy(shape, x, y))
        return masks


def test_what_qupath_shows_of_an_object() -> None:
    result = torn(8)
    rows = result.measure()
    features = result.to_geojson()["features"]
    assert len(features) == len(rows) > 3
    for number, (feature, segment, row) in enumerate(zip(features, result.objects, rows), start=1):
        said = feature["properties"]
        category = FIELD[segment.category]
        assert said["name"] == str(number)
        assert said["objectType"] == "detection"
        assert said["classification"] == {"name": category.name, "color": list(category.color)}
        assert said["measurements"]["area"] == row["area"] == segment.area
    assert len({feature["id"] for feature in features}) == len(features)
