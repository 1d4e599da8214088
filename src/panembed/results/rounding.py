"""Numbers in tables as they are meant: no more digits than a measurement has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panembed.results.measure import AREAS, LENGTHS

_RATIOS = ("eccentricity", "solidity", "orientation", "greenness", "score")
_PLACES = (*AREAS, *LENGTHS, "centroid_x", "centroid_y", "object_area", "mean_object_area", "hull_area")
_INTENSITIES = ("mean_", "std_", "min_", "max_", "sum_")


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of measurements, for people: whole numbers and text stay as they are.

    Lengths and areas in pixels have 2 decimals, ratios and angles 4, figures in other units 7 significant digits,
    intensities 2 decimals from 1,000 on and 6 significant digits below, sums 12 significant digits.

    >>> rounded({"area": 7, "centroid_x": 1.23456, "solidity": 0.123456, "area_um2": 0.123456, "mean_red": 12345.678})
    {'area': 7, 'centroid_x': 1.23, 'solidity': 0.1235, 'area_um2': 0.123456, 'mean_red': 12345.68}
    """
    return {name: _rounded(name, value) if isinstance(value, float) else value for name, value in row.items()}


def _rounded(name: str, value: float) -> float:
    if name in _RATIOS:
        return round(value, 4)
    if name in _PLACES:
        return round(value, 2)
    if name.startswith("sum_"):
        return float(f"{value:.12g}")
    if name.startswith(_INTENSITIES) and not name.startswith("mean_object_area"):
        return round(value, 2) if abs(value) >= 1000 else float(f"{value:.6g}")
    return float(f"{value:.7g}")
