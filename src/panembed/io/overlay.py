"""Pictures for people: a panoptic map over its image."""

from __future__ import annotations

import colorsys

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet, distinct_color
from panembed.labels.panoptic_map import PanopticMap, Segment

_COLORS_PER_CLASS = 1009

_PIXELS_A_LINE = 600
"""Of a picture's longer side: with as many again an outline is a pixel wider, to be seen when it is shown whole."""


def color_map(panoptic: PanopticMap, label_set: LabelSet) -> NDArray[np.uint8]:
    """Paint stuff in its class's colour and every object in a colour of its own; void is black.

    Where things have classes of different colours, an object's colour is a shade of its class's.

    Args:
        panoptic: HxW.
        label_set: its classes.

    Returns:
        HxWx3 uint8.
    """
    segment_map, segments = panoptic.segments(label_set)
    return np.take(_palette(segments, label_set), segment_map, axis=0)


def tells_classes(label_set: LabelSet) -> bool:
    """Whether objects' colours tell their class: there are several thing classes, each of a colour of its own.

    >>> tells_classes(LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}]))
    False
    """
    colors = {label_set[index].color for index in label_set.things}
    return 1 < len(colors) == len(label_set.things)


def _shade(color: tuple[int, int, int], number: int) -> tuple[int, int, int]:
    """The `number`-th of endlessly many shades of a colour: lighter, darker, and a little to either side in hue."""
    step = number * 0.618033988749895 % 1.0
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    hue = (hue + 0.06 * (number * 0.754877666246693 % 1.0 - 0.5)) % 1.0
    saturation *= 1 - 0.45 * (number * 0.569840290998053 % 1.0)
    value = min(1.0, (0.25 + 0.75 * value) * (0.7 + 0.45 * step))
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _palette(segments: list[Segment], label_set: LabelSet) -> NDArray[np.uint8]:
    """Colours of segments 0..S; 0 is void and black."""
    palette = np.zeros((len(segments) + 1, 3), dtype=np.uint8)
    shaded = tells_classes(label_set)
    for segment in segments:
        category = label_set[segment.category]
        if category.is_thing and shaded:
            palette[segment.id] = _shade(category.color, segment.instance)
        elif category.is_thing:
            # Instances count within a class, so each class starts elsewhere in the list of colours.
            number = segment.instance + _COLORS_PER_CLASS * label_set.things.index(segment.category)
            palette[segment.id] = distinct_color(number)
        else:
            palette[segment.id] = category.color
    return palette


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
    segment_map, segments = panoptic.segments(label_set)
    is_object = np.zeros(len(segments) + 1, dtype=bool)
    is_object[[s.id for s in segments if label_set[s.category].is_thing and s.instance > 0]] = True
    # A single stuff class is the background: leave the photograph as it is. So is void.
    is_tinted = is_object if len(label_set.stuff) <= 1 else np.arange(len(segments) + 1) > 0
    picture = image.copy()
    pixels = picture.reshape(-1, 3)
    tinted = np.flatnonzero(is_tinted[segment_map])
    weight = np.float32(opacity)
    colors = np.take(_palette(segments, label_set) * weight, segment_map.ravel()[tinted], axis=0)
    pixels[tinted] = (np.take(pixels, tinted, axis=0) * (1 - weight) + colors).astype(np.uint8)
    picture[_outlines(np.where(is_object[segment_map], segment_map, 0))] = 255
    return picture


def _outlines(objects: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another object, or of none; wider lines in large pictures."""
    edge = np.zeros(objects.shape, dtype=bool)
    edge[:, :-1] = objects[:, :-1] != objects[:, 1:]
    edge[:-1] |= objects[:-1] != objects[1:]
    width = max(objects.shape) // _PIXELS_A_LINE
    return scipy.ndimage.maximum_filter(edge, size=width) if width > 1 else edge
