"""Panoptic segmentation by pixel embeddings.

Any semantic-segmentation network with a second head, the discriminative loss, mean shift, Panoptic Quality.

>>> "load" in dir()
False
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from panembed.assembly.trained_model import load
    from panembed.clustering.mean_shift import mean_shift
    from panembed.errors import PanembedError
    from panembed.inference.predictor import PanopticModel
    from panembed.labels.categories import Category, LabelSet
    from panembed.labels.panoptic_map import PanopticMap
    from panembed.metrics.panoptic_quality import PanopticQuality
    from panembed.results.result import PanopticResult

__all__ = [
    "Category",
    "LabelSet",
    "PanembedError",
    "PanopticMap",
    "PanopticModel",
    "PanopticQuality",
    "PanopticResult",
    "load",
    "mean_shift",
]

_HOMES = {
    "Category": "panembed.labels.categories",
    "LabelSet": "panembed.labels.categories",
    "PanembedError": "panembed.errors",
    "PanopticMap": "panembed.labels.panoptic_map",
    "PanopticModel": "panembed.inference.predictor",
    "PanopticQuality": "panembed.metrics.panoptic_quality",
    "PanopticResult": "panembed.results.result",
    "load": "panembed.assembly.trained_model",
    "mean_shift": "panembed.clustering.mean_shift",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import panembed` is fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'panembed' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
