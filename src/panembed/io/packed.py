"""Label images that hold class and instance in one number, and CVPPP's, which hold the object alone.

What `PanopticMap` can say and a format can't is an error, never a silent loss: see `single_crowds`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panembed.errors import OutputError
from panembed.io.atomic import atomic_path
from panembed.io.coco_panoptic import encode_ids
from panembed.io.images import PNG_EFFORT, write_png
from panembed.io.label_images import write_instances
from panembed.labels.categories import IGNORE, LabelSet, distinct_color
from panembed.labels.packing import pack
from panembed.labels.panoptic_map import PanopticMap

PACKED_VOID = 65_535
"""Number of pixels without a class in 16-bit label images."""

WIDE_VOID = 2**31 - 1
"""The same in 32-bit ones, where 65,535 may stand for an object."""

_PALETTE_COLORS = 255


def single_crowds(panoptic: PanopticMap, label_set: LabelSet) -> PanopticMap:
    """Bring a map into the form that one number per pixel can hold, with the same segments.

    Things that belong to no object become void, which they count as. The crowd of a class gets instance 0.

    Args:
        panoptic: HxW.
        label_set: its classes.

    Raises:
        OutputError: a class has more than one crowd, or a stuff class several segments or a crowd; one number per
            pixel tells crowds apart by their class only, and stuff not at all.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> settled = single_crowds(PanopticMap([[0, 0, 0]], [[0, 4, 5]], [(0, 4)]), leaves)
    >>> settled.semantic.tolist(), settled.instance.tolist(), set(settled.crowd)
    ([[255, 0, 0]], [[0, 0, 5]], {(0, 0)})
    """
    semantic, instance = panoptic.semantic.copy(), panoptic.instance.copy()
    _check_stuff(panoptic, label_set)
    crowd: set[tuple[int, int]] = set()
    for thing in label_set.things:
        of_class = panoptic.semantic == thing
        marked = sorted(number for index, number in panoptic.crowd if index == thing)
        present = [number for number in marked if (of_class & (panoptic.instance == number)).any()]
        if len(present) > 1:
            raise OutputError(
                f"class {label_set[thing].name!r} has {len(present)} crowds in one image; expected at most one, since "
                "the format tells crowds apart by their class only; write COCO panoptic instead"
            )
        if 0 not in present:
            semantic[of_class & (panoptic.instance == 0)] = IGNORE
        for number in present:
            instance[of_class & (panoptic.instance == number)] = 0
            crowd.add((thing, 0))
    instance[semantic == IGNORE] = 0
    return PanopticMap(semantic, instance, crowd)


def _check_stuff(panoptic: PanopticMap, label_set: LabelSet) -> None:
    """Raise OutputError where a stuff class is more than one segment, or a crowd."""
    for stuff in label_set.stuff:
        numbers = np.unique(panoptic.instance[panoptic.semantic == stuff]).tolist()
        if stuff in panoptic.split_stuff and len(numbers) > 1:
            raise OutputError(
                f"class {label_set[stuff].name!r} has {len(numbers)} segments in one image; expected one, since the "
                "format tells objects of things apart only; write COCO panoptic instead"
            )
        if any((stuff, number) in panoptic.crowd for number in numbers):
            raise OutputError(
                f"class {label_set[stuff].name!r} is stuff, and a crowd; expected crowds of things only, as the format "
                "has no other; write COCO panoptic instead"
            )


def encode_packed(panoptic: PanopticMap, label_set: LabelSet, *, void: int = PACKED_VOID) -> NDArray[np.int32]:
    """Write class and instance as one number (Zachow 2022, Eq. 2.1), with a number for void.

    `panembed.labels.packing.unpack` with `ignore_values=(void,)` reads it back, segment by segment: objects are
    counted anew, from 0 in the order of their instance ids, and a crowd is its bare class id.

    Args:
        panoptic: HxW.
        label_set: its classes.
        void: the number of pixels without a class.

    Returns:
        HxW int32.

    Raises:
        OutputError: more than 1,000 objects or two crowds of a class, stuff in several segments or as a crowd, a thing
            class with id 0, a stuff class with an id of 1,000 or more, or a number that reaches `void`.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> encode_packed(PanopticMap([[0, 1, 255]], [[0, 7, 0]]), leaves).tolist()
    [[0, 1000, 65535]]
    """
    packed = pack(single_crowds(panoptic, label_set), label_set)
    largest = int(packed.max(initial=-1))
    if largest >= void:
        index = label_set.index_of(largest // 1000 if largest >= 1000 else largest)
        raise OutputError(
            f"class {label_set[index].name!r}: {largest} does not fit below {void}, which stands for void; give the "
            f"class an id below {void // 1000}, or write COCO panoptic instead"
        )
    packed[packed < 0] = void
    return packed


def write_packed(path: str | os.PathLike[str], panoptic: PanopticMap, label_set: LabelSet) -> None:
    """Write `encode_packed` as a 16-bit grey PNG; 65,535 is void.

    `panembed.datasets.folder` reads it with `encoding: class-instance` and `ignore: [65535]`.

    Raises:
        OutputError: see `encode_packed`, or the place can't be written.

    >>> import tempfile
    >>> from panembed.io.label_images import read_label_image
    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_packed(Path(folder) / "a.png", PanopticMap([[0, 0, 255]], [[3, 5, 0]]), leaves)
    ...     read_label_image(Path(folder) / "a.png").tolist()
    [[1000, 1001, 65535]]
    """
    write_png(path, encode_packed(panoptic, label_set).astype(np.uint16))


def write_wide_packed(path: str | os.PathLike[str], panoptic: PanopticMap, label_set: LabelSet) -> Path:
    """Write `encode_packed` with void 2**31 - 1: for classes whose numbers don't fit 16 bits, such as COCO's.

    Args:
        path: the suffix is set by what is written, see `panembed.io.label_images.write_instances`.
        panoptic: HxW.
        label_set: its classes.

    Returns:
        The path written: a 16-bit PNG where the numbers of this image fit, or else a 32-bit TIFF.

    Raises:
        OutputError: see `encode_packed`, or the place can't be written.

    >>> import tempfile
    >>> signs = LabelSet.from_list([{"id": 200, "name": "sign", "isthing": 1}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_wide_packed(Path(folder) / "a", PanopticMap([[0]], [[1]]), signs).name
    'a.tif'
    """
    return write_instances(path, encode_packed(panoptic, label_set, void=WIDE_VOID))


def encode_objects(panoptic: PanopticMap, label_set: LabelSet, *, void: int | None = None) -> NDArray[np.int32]:
    """Number the objects of the only thing class 1..K, in the order of their instance ids; 0 is background.

    Args:
        panoptic: HxW.
        label_set: one thing class and at most one stuff class.
        void: the number of pixels without a class; None where the format has none.

    Returns:
        HxW int32.

    Raises:
        OutputError: other classes, a crowd, void where `void` is None, or an object number that reaches `void`.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> encode_objects(PanopticMap([[0, 1, 1]], [[0, 9, 7]]), leaves).tolist()
    [[0, 2, 1]]
    """
    if len(label_set.things) != 1 or len(label_set.stuff) > 1:
        raise OutputError(
            f"the data has {len(label_set.things)} thing and {len(label_set.stuff)} stuff classes; expected one thing "
            "class and at most a background, which is all that object numbers can say; write coco-panoptic or packed"
        )
    panoptic = single_crowds(panoptic, label_set)
    if panoptic.crowd:
        raise OutputError(
            "the image has a crowd (objects not told apart), which object numbers can't say; write coco-panoptic or "
            "packed"
        )
    is_void = panoptic.semantic == IGNORE
    if void is None and is_void.any():
        raise OutputError(
            f"{np.count_nonzero(is_void)} pixels have no class, which this format can't say; write coco-panoptic, "
            "folder or packed"
        )
    is_object = panoptic.semantic == label_set.things[0]
    ids, order = np.unique(panoptic.instance[is_object], return_inverse=True)
    numbers = np.zeros(panoptic.shape, dtype=np.int32)
    numbers[is_object] = order.ravel() + 1
    if void is not None:
        if len(ids) >= void:
            raise OutputError(f"{len(ids)} objects do not fit below {void}, which stands for void")
        numbers[is_void] = void
    return numbers


def write_leaf_labels(path: str | os.PathLike[str], panoptic: PanopticMap, label_set: LabelSet) -> None:
    """Write objects as the CVPPP challenge does: a PNG whose palette indices are the objects, 0 background.

    With more than 255 objects it is an RGB PNG, a colour for every object, R + 256 G + 65536 B its number.

    Raises:
        OutputError: see `encode_objects`, or the place can't be written.

    >>> import tempfile
    >>> from panembed.io.label_images import read_label_image
    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_leaf_labels(Path(folder) / "a.png", PanopticMap([[0, 1, 1]], [[0, 3, 5]]), leaves)
    ...     read_label_image(Path(folder) / "a.png").tolist()
    [[0, 1, 2]]
    """
    numbers = encode_objects(panoptic, label_set)
    if numbers.max(initial=0) > _PALETTE_COLORS:
        write_png(path, encode_ids(numbers))
        return
    image = Image.fromarray(numbers.astype(np.uint8))
    palette = [0, 0, 0] + [channel for index in range(_PALETTE_COLORS) for channel in distinct_color(index)]
    image.putpalette(palette)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", **PNG_EFFORT)
