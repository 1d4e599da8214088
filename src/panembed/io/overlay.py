"""Pictures for people: a panoptic map over its image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panembed.labels import IGNORE, LabelSet, PanopticMap, distinct_color

_COLORS_PER_CLASS = 1009


def color_map(panoptic: PanopticMap, label_set: LabelSet) -> NDArray[np.uint8]:
    """Paint stuff in its class's colour and every object in a colour of its own; void is black.

    Args:
        panoptic: HxW.
        label_set: its classes.

    Returns:
        HxWx3 uint8.
    """
    segment_map, segments = panoptic.segments(label_set)
    palette = np.zeros((len(segments) + 1, 3), dtype=np.uint8)
    for segment in segments:
        category = label_set[segment.category]
        if category.is_thing:
            # Instances count within a class, so each class starts elsewhere in the list of colours.
            number = segment.instance + _COLORS_PER_CLASS * label_set.things.index(segment.category)
            palette[segment.id] = distinct_color(number)
        else:
            palette[segment.id] = category.color
    return palette[segment_map]


def overlay(
    image: NDArray[np.uint8], panoptic: PanopticMap, label_set: LabelSet, *, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Lay the objects' colours and white outlines over the image; stuff tints it if there are several such classes.

    Args:
        image: HxWx3 uint8.
        panoptic: HxW.
        label_set: its classes.
        opacity: of the colours, 0..1.

    Returns:
        HxWx3 uint8.

    Raises:
        ValueError: image and map differ in size.
    """
    if image.shape[:2] != panoptic.shape:
        raise ValueError(f"image is {image.shape[:2]} but the map is {panoptic.shape}; expected one size")
    is_thing = np.zeros(IGNORE + 1, dtype=bool)
    is_thing[list(label_set.things)] = True
    tinted = panoptic.semantic != IGNORE
    if len(label_set.stuff) <= 1:
        # A single stuff class is the background: leave the photograph as it is.
        tinted = is_thing[panoptic.semantic] & (panoptic.instance > 0)
    weight = np.where(tinted, opacity, 0.0).astype(np.float32)[..., None]
    mixed = image * (1 - weight) + color_map(panoptic, label_set) * weight
    picture = mixed.astype(np.uint8)
    picture[_outlines(panoptic, is_thing)] = 255
    return picture


def _outlines(panoptic: PanopticMap, is_thing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of objects whose right or lower neighbour is of another object or class."""
    objects = np.where(is_thing[panoptic.semantic], panoptic.instance, 0)
    key = objects.astype(np.int64) * (IGNORE + 1) + np.where(objects > 0, panoptic.semantic, 0)
    edge = np.zeros(key.shape, dtype=bool)
    edge[:, :-1] |= key[:, :-1] != key[:, 1:]
    edge[:-1] |= key[:-1] != key[1:]
    return edge
