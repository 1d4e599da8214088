"""The Leaf Segmentation Challenge of CVPPP 2017: rosettes seen from above, every leaf labelled.

Sources: Minervini et al. 2016, Pattern Recognition Letters 81, 80-89; Scharr et al. 2014. Research use only.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from panembed.datasets.sample import FileDataset
from panembed.errors import InputError
from panembed.io.label_images import MAX_PNG_ID, read_label_image
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

SUBSETS = ("A1", "A2", "A3", "A4")
"""Sub-folders of the training set."""

LEAVES = LabelSet([Category(0, "background", False, (60, 45, 35)), Category(1, "leaf", True, (70, 160, 60))])
"""Background is stuff, a leaf is a thing."""

_IMAGE, _LABEL = "_rgb.png", "_label.png"


class CvpppDataset(FileDataset):
    """Images and leaf labels of the challenge's training set.

    Files are `plantNNN_rgb.png` and `plantNNN_label.png`; the set's other files are left alone. Labels are leaf
    numbers behind a palette (read as numbers), or a colour for every leaf (renumbered 1..K); 0 or black is background.

    Args:
        root: a folder with sub-folders `A1` to `A4`, one or more, or one such sub-folder itself. Ids are
            `A1/plant001` or `plant001`.

    Raises:
        InputError: nothing of that is found, an image has no label, or a label has no image.

    >>> CvpppDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: no such folder; expected one with plantNNN_rgb.png and plantNNN_label.png
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; expected one with plantNNN_rgb.png and plantNNN_label.png")
        files: dict[str, tuple[Path, Path]] = {}
        for folder in _folders(root):
            images, labels = _by_plant(folder, _IMAGE), _by_plant(folder, _LABEL)
            for plant in sorted(images.keys() ^ labels.keys()):
                if plant in images:
                    raise InputError(
                        f"{images[plant]}: has no label; expected {plant}{_LABEL} beside it; add it, or move the "
                        "image elsewhere"
                    )
                raise InputError(
                    f"{labels[plant]}: has no image; expected {plant}{_IMAGE} beside it; add it, or move the label "
                    "elsewhere"
                )
            prefix = "" if folder == root else f"{folder.name}/"
            files.update({prefix + plant: (images[plant], labels[plant]) for plant in images})
        if not files:
            raise InputError(
                f"{root}: holds no CVPPP images; expected plantNNN_rgb.png and plantNNN_label.png in it, or in its "
                "sub-folders A1 to A4"
            )
        super().__init__(root, LEAVES, files)

    def read_truth(self, id: str) -> PanopticMap:
        """Leaves 1..K of the plant, or the numbers in its file; InputError where the label can't be read."""
        path = self.label_path(id)
        leaf = read_label_image(path)
        if leaf.min() < 0:
            raise InputError(f"{path}: holds the number {leaf.min()}; expected 0 for background and leaves from 1")
        if leaf.max() > MAX_PNG_ID:
            # Colours, not numbers. np.unique sorts, and black, the background, is 0 and first.
            colors, order = np.unique(leaf, return_inverse=True)
            leaf = (order.reshape(leaf.shape) + int(colors[0] != 0)).astype(np.int32)
        return PanopticMap((leaf > 0).astype(np.uint8), leaf)


def is_cvppp(root: Path) -> bool:
    """Does the folder look like the challenge's?

    >>> is_cvppp(Path("/no/such/folder"))
    False
    """
    return any(_by_plant(folder, _IMAGE) for folder in _folders(root))


def _folders(root: Path) -> list[Path]:
    """The sub-folders A1 to A4 that there are, or else the folder itself."""
    return [root / name for name in SUBSETS if (root / name).is_dir()] or [root]


def _by_plant(folder: Path, ending: str) -> dict[str, Path]:
    return {p.name.removesuffix(ending): p for p in folder.glob(f"*{ending}") if not p.name.startswith(".")}
