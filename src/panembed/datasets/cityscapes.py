"""Cityscapes, fine annotations: street scenes from a car, 19 evaluated classes of which 8 are things.

Source: Cordts et al. 2016, https://www.cityscapes-dataset.com. Non-commercial use; not to be passed on.

    root/
      leftImg8bit/{train,val,test}/CITY/NAME_leftImg8bit.png
      gtFine/{train,val,test}/CITY/NAME_gtFine_instanceIds.png
      gtFine/{train,val,test}/CITY/NAME_gtFine_labelIds.png       optional, to check the others by
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from panembed.datasets.sample import FileDataset
from panembed.datasets.splits import Split, make_split
from panembed.errors import InputError
from panembed.io.cityscapes import CITYSCAPES, decode_instance_ids
from panembed.io.label_images import read_label_image
from panembed.labels.panoptic_map import PanopticMap

__all__ = ["CITYSCAPES", "CityscapesDataset", "is_cityscapes", "official_split"]

SPLITS = ("train", "val", "test")
"""The folders of the official split."""

_IMAGES, _TRUTHS = "leftImg8bit", "gtFine"
_IMAGE, _TRUTH, _LABELS = "_leftImg8bit.png", "_gtFine_instanceIds.png", "_gtFine_labelIds.png"


class CityscapesDataset(FileDataset):
    """Images and fine annotations in the official folders.

    Ids are `train/aachen/aachen_000000_000019`. Classes and their ids are in `panembed.io.cityscapes.CITYSCAPES`.

    A split folder of which no image at all is annotated is left out, and its ids are in `left_out`: so a download
    without the annotations of `test` opens. The official `gtFine/test` holds dummy annotations, and its images read as
    void everywhere; `official_split` uses neither.

    Args:
        root: the folder with `leftImg8bit` and `gtFine`.

    Attributes:
        left_out: ids of images in split folders without annotations.

    Raises:
        InputError: a folder is missing, nothing is found, an image of an annotated split has no annotation, or an
            annotation has no image.

    >>> CityscapesDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: has no folder leftImg8bit/; expected leftImg8bit/ and gtFine/ in it
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        root = Path(root)
        for name in (_IMAGES, _TRUTHS):
            if not (root / name).is_dir():
                raise InputError(f"{root}: has no folder {name}/; expected {_IMAGES}/ and {_TRUTHS}/ in it")
        files: dict[str, tuple[Path, Path]] = {}
        left_out: list[str] = []
        for split in SPLITS:
            images = _by_id(root / _IMAGES, split, _IMAGE)
            truths = _by_id(root / _TRUTHS, split, _TRUTH)
            if not truths:
                left_out += images
                continue
            for id in sorted(images.keys() ^ truths.keys()):
                if id in images:
                    raise InputError(
                        f"{images[id]}: has no annotation; expected {_TRUTHS}/{id}{_TRUTH}; add it, or move the image "
                        "elsewhere"
                    )
                raise InputError(
                    f"{truths[id]}: has no image; expected {_IMAGES}/{id}{_IMAGE}; add it, or move the annotation "
                    "elsewhere"
                )
            files.update({id: (images[id], truths[id]) for id in images})
        if not files:
            found = f"{len(left_out)} images, none of them annotated" if left_out else "no images"
            raise InputError(
                f"{root}: found {found}; expected {_IMAGES}/train/CITY/NAME{_IMAGE} with "
                f"{_TRUTHS}/train/CITY/NAME{_TRUTH}; check the download"
            )
        self.left_out = tuple(sorted(left_out))
        super().__init__(root, CITYSCAPES, files)

    def read_truth(self, id: str) -> PanopticMap:
        """The annotation as a panoptic map, see `panembed.io.cityscapes.decode_instance_ids`.

        Raises:
            InputError: it can't be read, or holds numbers that stand for nothing.
        """
        path = self.label_path(id)
        return decode_instance_ids(read_label_image(path), source=str(path))

    def verify(self, id: str) -> None:
        """Compare the annotation with its labelIds file, where there is one.

        Raises:
            InputError: a file can't be read, or they differ in size or in the class of a pixel.
        """
        path = self.label_path(id)
        beside = path.with_name(path.name.removesuffix(_TRUTH) + _LABELS)
        if not beside.is_file():
            return
        labels = read_label_image(beside)
        # License plate, -1, is 255 in 8 bits.
        expected = decode_instance_ids(np.where(labels == 255, -1, labels), source=str(beside)).semantic
        found = self.read_truth(id).semantic
        if expected.shape != found.shape:
            raise InputError(f"{path}: is {found.shape} but {beside.name} {expected.shape}; expected one size")
        wrong = np.count_nonzero(expected != found)
        if wrong:
            raise InputError(
                f"{path}: {wrong:,} pixels are of another class than in {beside.name}; expected the same; download "
                "both again"
            )

    def official_split(self, seed: int = 0) -> Split:
        """See the function of this name."""
        return official_split(self, seed)

    def official_test(self) -> tuple[str, ...]:
        """The images of the official `val` folder, which results are reported on."""
        return tuple(id for id in self.ids if id.startswith("val/"))


def official_split(dataset: CityscapesDataset, seed: int = 0) -> Split:
    """Give the split that results on Cityscapes are reported for (Zachow 2022, section 4.1).

    The official `val` folder is the test set, and the official `train` folder is drawn again into 80 % for training and
    20 % for validation. Images of the official `test` folder, whose annotations are kept back, are in no part. Where
    there is no `val` folder, the test part is empty: nothing there may be called Cityscapes' test set.

    Args:
        dataset: at least three images of its `train` folder.
        seed: of the draw.

    Raises:
        InputError: fewer than three images in `train`.
    """
    train = [id for id in dataset.ids if id.startswith("train/")]
    if len(train) < 3:
        raise InputError(
            f"{dataset.root}: {_IMAGES}/train holds {len(train)} annotated images; the official split needs 3 or more"
        )
    drawn = make_split(train, seed=seed, fractions=(0.8, 0.2, 0.0))
    return Split(drawn.train, drawn.val, dataset.official_test(), seed, drawn.fractions)


def is_cityscapes(root: Path) -> bool:
    """Does the folder hold `leftImg8bit` and `gtFine`?

    >>> is_cityscapes(Path("/no/such/folder"))
    False
    """
    return (root / _IMAGES).is_dir() and (root / _TRUTHS).is_dir()


def _by_id(folder: Path, split: str, ending: str) -> dict[str, Path]:
    return {
        f"{split}/{path.parent.name}/{path.name.removesuffix(ending)}": path
        for path in sorted((folder / split).glob(f"*/*{ending}"))
        if not path.name.startswith(".")
    }
