"""What a data set gives: one image with its truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError
from panembed.io.channels import Channel
from panembed.io.images import read_image
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image with its truth.

    Attributes:
        image: HxWx3 uint8, RGB.
        truth: panoptic map of the same size.
        id: the image's name within its data set, such as `A1/plant001`.

    Raises:
        ValueError: image and truth differ in size, or the image isn't HxWx3 uint8.

    >>> Sample(np.zeros((2, 3, 3), np.uint8), PanopticMap(np.zeros((2, 3), int), np.zeros((2, 3), int)), "a").size
    (2, 3)
    """

    image: NDArray[np.uint8]
    truth: PanopticMap
    id: str

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"image: expected HxWx3 uint8, found {self.image.dtype} {self.image.shape}")
        if self.size != self.truth.shape:
            raise ValueError(f"image is {self.size} but truth is {self.truth.shape}; expected one size")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@runtime_checkable
class Dataset(Protocol):
    """Images with their truth, by id.

    Attributes:
        label_set: the classes of every truth.
        root: the folder that holds the files.
        ids: sorted, each once, posix-style names relative to the root without suffix, such as `A1/plant001`.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> isinstance(SyntheticDataset(2), Dataset)
    True
    """

    label_set: LabelSet
    root: Path
    ids: list[str]

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def image_path(self, id: str) -> Path:
        """The file of the image; InputError where the data set has no such id."""
        ...

    def read_image(self, id: str) -> NDArray[np.uint8]:
        """The image, HxWx3 uint8 RGB; InputError where it can't be read."""
        ...

    def read_truth(self, id: str) -> PanopticMap:
        """The truth; InputError where it can't be read."""
        ...

    def load(self, id: str) -> Sample:
        """Image and truth; InputError where they differ in size."""
        ...


def choose_channel(dataset: Dataset, channel: Channel) -> None:
    """Have a data set's image files read with this channel as the picture; data sets without files stay as they are.

    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> from panembed.datasets.folder import FolderDataset
    >>> dataset = FolderDataset(sample_nuclei_path())
    >>> choose_channel(dataset, "green")
    >>> dataset.channel
    'green'
    """
    if isinstance(dataset, FileDataset):
        dataset.channel = channel


class FileDataset:
    """The part that data sets on a disk share: ids, paths, and the check that image and truth are of one size.

    A layout derives from it, fills `_files` and defines `read_truth`.

    Args:
        root: the folder that holds the files.
        label_set: the classes.
        files: image file and label file of every id.

    Attributes:
        channel: of the image files that is the picture, see `panembed.io.images.read_image`; may be set.

    Raises:
        InputError: there are no images.

    >>> FileDataset(Path("leaves"), LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}]),
    ...             {"b": (Path("b.png"), Path("b_label.png")), "a": (Path("a.png"), Path("a_label.png"))}).ids
    ['a', 'b']
    """

    def __init__(self, root: Path, label_set: LabelSet, files: dict[str, tuple[Path, Path]]) -> None:
        if not files:
            raise InputError(f"{root}: no images found; expected at least one")
        self.root = root
        self.label_set = label_set
        self.ids = sorted(files)
        self._files = files
        self.channel: Channel = "auto"

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, {len(self)} images)"

    def _paths(self, id: str) -> tuple[Path, Path]:
        try:
            return self._files[id]
        except KeyError:
            raise InputError(
                f"{self.root}: no image is called {id!r}; names look like {self.ids[0]!r}, {len(self)} in all"
            ) from None

    def image_path(self, id: str) -> Path:
        """The file of the image; InputError where the data set has no such id."""
        return self._paths(id)[0]

    def label_path(self, id: str) -> Path:
        """The file of the truth; InputError where the data set has no such id."""
        return self._paths(id)[1]

    def read_image(self, id: str) -> NDArray[np.uint8]:
        """The image, HxWx3 uint8 RGB; InputError where it can't be read."""
        return read_image(self.image_path(id), channel=self.channel)

    def read_truth(self, id: str) -> PanopticMap:
        """The truth; InputError where it can't be read."""
        raise NotImplementedError

    def load(self, id: str) -> Sample:
        """Image and truth; InputError where they differ in size."""
        image, truth = self.read_image(id), self.read_truth(id)
        if image.shape[:2] != truth.shape:
            lies = image.shape[:2] == truth.shape[::-1]
            raise InputError(
                f"{self.label_path(id)}: label is {truth.shape[1]}x{truth.shape[0]} pixels, but its image "
                f"{self.image_path(id).name} is {image.shape[1]}x{image.shape[0]}; expected the same size"
                + ("; a JPEG is turned as its EXIF orientation says: turn the label, too" if lies else "")
            )
        return Sample(image, truth, id)
