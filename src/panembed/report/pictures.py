"""Pictures inside a page: photographs, and layers of labels to lay over them, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from scipy.ndimage import binary_dilation

from panembed.io.overlay import color_map
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS, classify_objects
from panembed.metrics.overlaps import count_overlaps
from panembed.report.error_colors import ERROR_COLORS

_WHITE, _BLACK = 0xFFFFFF, 0
_MOST_COLORS = 250
"""Of a layer: 8-bit pictures have 256, and three are taken."""


def shown_shape(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width at which an image is shown: its own, or with a longer side of `side` pixels if that is less.

    >>> shown_shape((500, 1000), 400), shown_shape((50, 100), 400)
    ((200, 400), (50, 100))
    """
    height, width = shape
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def photograph(image: NDArray[np.uint8], shape: tuple[int, int]) -> str:
    """An HxWx3 image shrunk to `shape`, as a data URI: WebP, or JPEG where Pillow can't write that."""
    picture = Image.fromarray(image)
    if image.shape[:2] != shape:
        picture = picture.resize((shape[1], shape[0]), Image.Resampling.BOX)
    if features.check("webp"):
        return _uri(picture, "webp", quality=82, method=2)
    return _uri(picture, "jpeg", quality=85)


def shrunk(panoptic: PanopticMap, shape: tuple[int, int]) -> PanopticMap:
    """A map of `shape`, by the nearest pixels."""
    return PanopticMap(_nearest(panoptic.semantic, shape), _nearest(panoptic.instance, shape), panoptic.crowd)


def label_layer(panoptic: PanopticMap, label_set: LabelSet, shape: tuple[int, int]) -> str:
    """Objects in colours of their own with white outlines, all else transparent, as a data URI of a PNG.

    Where there are several classes of stuff these are coloured, too. The map is shrunk first, so that outlines stay
    one pixel wide.
    """
    small = shrunk(panoptic, shape)
    segment_map, segments = small.segments(label_set)
    is_object = np.zeros(len(segments) + 1, dtype=bool)
    is_object[[s.id for s in segments if label_set[s.category].is_thing and s.instance > 0]] = True
    shown = is_object if len(label_set.stuff) <= 1 else np.arange(len(segments) + 1) > 0
    objects = np.where(is_object[segment_map], segment_map, 0)
    return _flat_png(color_map(small, label_set), shown[segment_map], _edges(objects))


def error_layer(
    prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet, shape: tuple[int, int]
) -> tuple[str, dict[str, int], int]:
    """What is wrong with each object: predicted ones in the colours of their errors, lost true ones outlined.

    Args:
        prediction: HxW.
        truth: as the prediction.
        label_set: their classes.
        shape: at which it is shown.

    Returns:
        A data URI of a PNG, transparent where there is no object; how many predicted objects have which label; how
        many true objects are lost.
    """
    true, predicted = classify_objects(count_overlaps(prediction, truth, label_set), label_set)
    # -1, of what is no object, takes the last colour, which isn't shown.
    palette = np.array([*(_rgb(ERROR_COLORS[label]) for label in PREDICTED_LABELS), (0, 0, 0)], dtype=np.uint8)
    segment_map = _nearest(prediction.segments(label_set)[0], shape)
    edges = _edges(np.where(predicted[segment_map] >= 0, segment_map, 0))
    lost = (true >= 0) & (true != TRUE_LABELS.index("found"))
    true_map = _nearest(truth.segments(label_set)[0], shape)
    ring = _rim(np.where(lost[true_map], true_map, 0))
    # White between black is seen on any colour.
    black = (binary_dilation(ring, np.ones((3, 3), dtype=bool)) & ~ring) if lost.any() else ring
    counts = np.bincount(predicted[predicted >= 0], minlength=len(PREDICTED_LABELS)).tolist()
    uri = _flat_png(palette[predicted][segment_map], predicted[segment_map] >= 0, edges & ~black | ring, black)
    return uri, dict(zip(PREDICTED_LABELS, counts)), int(lost.sum())


def class_layer(semantic: NDArray[np.uint8], label_set: LabelSet, shape: tuple[int, int]) -> str:
    """Every pixel in its class's colour (figure 3.3 of the thesis), void transparent, as a data URI of a PNG."""
    small = _nearest(semantic, shape)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(label_set)] = [category.color for category in label_set]
    return _flat_png(palette[small], small < len(label_set), np.zeros(shape, dtype=bool))


def _nearest(labels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    height, width = labels.shape
    if (height, width) == shape:
        return labels
    rows = ((np.arange(shape[0]) + 0.5) * height / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * width / shape[1]).astype(np.intp)
    return np.asarray(labels[rows[:, None], columns])


def _edges(objects: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of objects whose right or lower neighbour is of another one, or of none."""
    edge = np.zeros(objects.shape, dtype=bool)
    edge[:, :-1] = objects[:, :-1] != objects[:, 1:]
    edge[:-1] |= objects[:-1] != objects[1:]
    return edge


def _rim(objects: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of objects at their outline."""
    padded = np.pad(objects, 1)
    around = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.asarray((objects > 0) & np.any([side != objects for side in around], axis=0))


def _flat_png(
    colors: NDArray[np.uint8],
    shown: NDArray[np.bool_],
    white: NDArray[np.bool_],
    black: NDArray[np.bool_] | None = None,
) -> str:
    """A picture of few colours with a palette; transparent where nothing is shown.

    Beyond 250 colours those that are left take the place of the first ones again.
    """
    packed = colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found, place = np.unique(packed[shown], return_inverse=True)
    indices = np.zeros(shown.shape, dtype=np.uint8)
    indices[shown] = 3 + place % _MOST_COLORS
    if black is not None:
        indices[black] = 2
    indices[white] = 1
    palette = [0, _WHITE, _BLACK, *found[:_MOST_COLORS].tolist()]
    picture = Image.fromarray(indices)
    picture.putpalette([channel for color in palette for channel in color.to_bytes(3, "big")])
    return _uri(picture, "png", transparency=bytes([0]), compress_level=9, bits=8 if len(palette) > 16 else 4)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
