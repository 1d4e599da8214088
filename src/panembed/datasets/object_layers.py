"""Data sets whose files draw each object by itself, so that objects may overlap: what their readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from panembed.datasets.sample import FileDataset
from panembed.errors import InputError, SettingsError
from panembed.io.image_size import image_size
from panembed.labels.categories import Category, LabelSet, distinct_color
from panembed.labels.object_masks import ObjectMask, paint
from panembed.labels.panoptic_map import PanopticMap

BACKGROUND = "background"
"""Name of the stuff class of all pixels without an object."""

OUTSIDE = "objects that reach out of the image, and are cut at its edge"
SCORES = "scores of objects"
NO_OUTLINE = "annotations without an outline"
"""What a truth loses, in words; see `LayeredDataset.losses`."""

Color = tuple[int, int, int]


class LayeredDataset(FileDataset):
    """A data set of objects that are drawn one by one.

    A reader derives from it and defines `_objects`. All pixels without an object are background, class index 0. Where
    objects overlap the smaller one lies on top, see `panembed.labels.object_masks.paint`.

    Args:
        root: the folder that holds the files.
        label_set: background first.
        files: image file and label file of every id.
        left_out: ids of images without labels.

    Attributes:
        left_out: those ids, sorted.
    """

    in_order = False
    """Later objects lie on top, instead of smaller ones."""

    def __init__(
        self, root: Path, label_set: LabelSet, files: dict[str, tuple[Path, Path]], left_out: Iterable[str] = ()
    ) -> None:
        super().__init__(root, label_set, files)
        self.left_out = tuple(sorted(left_out))

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        """The objects of an image of this height and width, in the order of the file, and what is not read of them."""
        raise NotImplementedError

    def _shape(self, id: str) -> tuple[int, int]:
        """Height and width that the labels are drawn for."""
        return image_size(self.image_path(id))

    def read_truth(self, id: str) -> PanopticMap:
        """The objects laid over one another; InputError where they can't be read."""
        return self._painted(id)[0]

    def losses(self, id: str) -> dict[str, int]:
        """What of an image's annotations the truth doesn't hold: a count by what it is; InputError as `read_truth`."""
        return dict(self._painted(id)[1])

    def _painted(self, id: str) -> tuple[PanopticMap, Counter[str]]:
        shape = self._shape(id)
        objects, unread = self._objects(id, shape)
        truth, lost = paint(objects, shape, 0, in_order=self.in_order)
        return truth, +(unread + lost)


def with_background(where: str, things: Sequence[tuple[int | None, str, Color | None]]) -> LabelSet:
    """Classes of things, after a background.

    Args:
        where: the classes are said, for errors.
        things: id (None: the next that is free), name and colour of each. Background has id 0, or the first that is
            free.

    Raises:
        InputError: ids or names that occur twice or are out of range, or more than 254 things.

    >>> with_background("classes.txt", [(None, "leaf", None), (None, "bud", None)])
    LabelSet(0=background, 1=leaf*, 2=bud*; * thing)
    """
    taken = {id for id, _, _ in things if id is not None}
    free = (id for id in range(65_535) if id not in taken)
    background = Category(next(free), BACKGROUND, False, (38, 40, 44))
    categories = [
        Category(next(free) if id is None else id, name, True, color or distinct_color(number))
        for number, (id, name, color) in enumerate(things)
    ]
    try:
        return LabelSet([background, *categories])
    except SettingsError as error:
        raise InputError(f"{where}: {error}") from error
