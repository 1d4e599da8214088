"""GeoJSON as QuPath reads it: File > Import objects from file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panembed.io.atomic import write_text
from panembed.io.geojson_geometry import geometry
from panembed.results.exports.exporter import Exporter
from panembed.results.result import PanopticResult

_NO_MEASUREMENT = ("segment_id", "class", "instance")
"""Of the columns: they name the object."""


def feature_collection(result: PanopticResult, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """One feature an object: its outline with holes, class with colour, score and measurements.

    Coordinates are corners of pixels, x to the right, y down, from the image's top left corner, as QuPath has them. An
    object of several pieces is a MultiPolygon. Objects are called by their number (`instance_id`), and their ids
    follow from that and the image's name, so that the same result gives the same file.

    Args:
        result: of one image.
        rows: measurements, as `PanopticResult.measure` gives them; None measures now.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(1, size=64)
    >>> sample = plants.load(plants.ids[0])
    >>> features = feature_collection(PanopticResult(sample.truth, plants.label_set, sample.image))["features"]
    >>> features[0]["properties"]["name"], features[0]["geometry"]["type"]
    ('1', 'Polygon')
    """
    rows = result.measure() if rows is None else rows
    found = result.outlines()
    features = []
    for number, segment, row in zip(result.numbers, result.objects, rows, strict=True):
        category = result.label_set[segment.category]
        measured = {
            name: float(value)
            for name, value in row.items()
            if name not in _NO_MEASUREMENT and isinstance(value, int | float)
        }
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"panembed:{result.name}:{number}")),
                "geometry": geometry(found[number]),
                "properties": {
                    "objectType": "detection",
                    "name": str(number),
                    "classification": {"name": category.name, "color": list(category.color)},
                    "measurements": measured,
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


class GeoJsonExporter(Exporter):
    """NAME_objects.geojson."""

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the features of one image."""
        text = json.dumps(feature_collection(result, rows), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        write_text(self.path_of(result), text + "\n")
