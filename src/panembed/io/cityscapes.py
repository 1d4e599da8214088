"""Cityscapes' classes, and its instanceIds images.

Cordts et al. 2016, "The Cityscapes Dataset for Semantic Urban Scene Understanding"; ids, names and colours as in the
official cityscapesScripts. A pixel is `class id * 1000 + n` on an object, and the class id alone on stuff and on
groups: objects of a thing class that are not told apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError, OutputError
from panembed.io.packed import single_crowds
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.packing import pack
from panembed.labels.panoptic_map import PanopticMap

CITYSCAPES = LabelSet(
    [
        Category(7, "road", False, (128, 64, 128)),
        Category(8, "sidewalk", False, (244, 35, 232)),
        Category(11, "building", False, (70, 70, 70)),
        Category(12, "wall", False, (102, 102, 156)),
        Category(13, "fence", False, (190, 153, 153)),
        Category(17, "pole", False, (153, 153, 153)),
        Category(19, "traffic light", False, (250, 170, 30)),
        Category(20, "traffic sign", False, (220, 220, 0)),
        Category(21, "vegetation", False, (107, 142, 35)),
        Category(22, "terrain", False, (152, 251, 152)),
        Category(23, "sky", False, (70, 130, 180)),
        Category(24, "person", True, (220, 20, 60)),
        Category(25, "rider", True, (255, 0, 0)),
        Category(26, "car", True, (0, 0, 142)),
        Category(27, "truck", True, (0, 0, 70)),
        Category(28, "bus", True, (0, 60, 100)),
        Category(31, "train", True, (0, 80, 100)),
        Category(32, "motorcycle", True, (0, 0, 230)),
        Category(33, "bicycle", True, (119, 11, 32)),
    ]
)
"""The 19 evaluated classes, 8 of them things, under their official ids (not train ids)."""

IGNORED_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""Classes that evaluation leaves out; polegroup (18) is one of them, not a group of poles. License plate has -1."""

_IGNORED_THINGS = (29, 30)  # caravan, trailer
_LICENSE_PLATE = (-1, 65_535)
_UNKNOWN = 254
_SIZE = 34_000


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Class index and instance of every number; the last entry stands for all that is out of range."""
    classes = np.full(_SIZE + 1, _UNKNOWN, dtype=np.uint8)
    instances = np.zeros(_SIZE + 1, dtype=np.int32)
    classes[list(IGNORED_IDS)] = IGNORE
    for id in _IGNORED_THINGS:
        classes[id * 1000 : id * 1000 + 1000] = IGNORE
    for index, category in enumerate(CITYSCAPES):
        classes[category.id] = index
        if category.is_thing:
            numbers = slice(category.id * 1000, category.id * 1000 + 1000)
            classes[numbers] = index
            instances[numbers] = np.arange(1, 1001)
    return classes, instances


_CLASSES, _INSTANCES = _tables()


def decode_instance_ids(numbers: NDArray[np.int32], *, source: str = "instanceIds") -> PanopticMap:
    """Turn the numbers of an instanceIds image into a panoptic map.

    Objects get instance `n + 1` of their class. A thing's bare class id is a crowd, (class, 0). Ignored classes, and
    their objects, are void. The numbers of a labelIds image are read too: all its things are crowds.

    Args:
        numbers: HxW integers.
        source: name of the file, for error messages.

    Raises:
        InputError: a number stands for no class, or a stuff class has objects.

    >>> decode_instance_ids(np.array([[26003, 26, 7, 29001]])).instance.tolist()
    [[4, 0, 0, 0]]
    """
    place = np.where((numbers >= 0) & (numbers < _SIZE), numbers, _SIZE)
    semantic = _CLASSES[place]
    strange = semantic == _UNKNOWN
    if strange.any():
        plate = np.isin(numbers, _LICENSE_PLATE)
        semantic[plate] = IGNORE
        strange &= ~plate
    if strange.any():
        value = int(numbers[strange][0])
        raise InputError(
            f"{source}: holds {value} ({np.count_nonzero(strange):,} pixels have numbers like it), which stands for "
            "nothing in Cityscapes; expected a class id 0..33, or class id * 1000 + n for things; check that it is an "
            "instanceIds file, with official ids"
        )
    present = np.zeros(_SIZE + 1, dtype=bool)
    present[place] = True
    crowd = [(thing, 0) for thing in CITYSCAPES.things if present[CITYSCAPES[thing].id]]
    return PanopticMap(semantic, _INSTANCES[place], crowd)


def encode_instance_ids(panoptic: PanopticMap, label_set: LabelSet = CITYSCAPES) -> NDArray[np.uint16]:
    """Write a panoptic map as the numbers of an instanceIds image: the inverse of `decode_instance_ids`.

    Objects are counted anew, from 0 within their class; void becomes 0, unlabeled.

    Args:
        panoptic: HxW.
        label_set: its classes, each one of Cityscapes' under the official id.

    Returns:
        HxW uint16.

    Raises:
        OutputError: another class, more than 1,000 objects of a class, or two crowds of a class.

    >>> encode_instance_ids(PanopticMap([[13, 13, 0, 255]], [[4, 0, 0, 0]], [(13, 0)])).tolist()
    [[26000, 26, 7, 0]]
    """
    known = {category.id: category for category in CITYSCAPES}
    for category in label_set:
        there = known.get(category.id)
        if there is None or there.is_thing != category.is_thing or there.name != category.name:
            official = f"{there.id} {there.name}" if there else "none with this id"
            raise OutputError(
                f"class {category.id} {category.name!r} is not one of Cityscapes' 19 (there it is {official}); "
                "expected their ids and names; write coco-panoptic instead"
            )
    packed = pack(single_crowds(panoptic, label_set), label_set)
    packed[packed < 0] = 0
    return packed.astype(np.uint16)
