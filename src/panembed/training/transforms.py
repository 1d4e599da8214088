"""Training images: changed at random each time they are shown.

Every random number comes from (seed, epoch, image), never from a shared generator: so an image's augmentation is the
same whatever the number of workers, and after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional as F

from panembed.datasets.sample import Dataset, Sample
from panembed.errors import SettingsError
from panembed.inference.preparation import STRIDE, Preparation, resize_nearest
from panembed.labels.categories import IGNORE
from panembed.training.copy_paste import CopyPaste
from panembed.training.stored_images import MAX_BYTES, StoredImages


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One image as the losses want it.

    Attributes:
        image: 3xHxW float32, normalised.
        semantic: HxW int64 class indices, 255 to ignore.
        instance: HxW int32, counted from 1 within the image over all classes, 0 for none.
    """

    image: Tensor
    semantic: Tensor
    instance: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TrainingExample:
        """The same on another device; accelerate calls this to bring batches to the network."""
        return TrainingExample(
            self.image.to(device, non_blocking=non_blocking),
            self.semantic.to(device, non_blocking=non_blocking),
            self.instance.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Rotation, flips, anisotropic stretch and crop (Zachow 2022, section 4.1.2), and colour jitter.

    Colours change first, on the whole image. All geometry is one affine map and one interpolation: bilinear for the
    image, nearest for labels. What falls outside the image is filled by reflection and has no label.

    Attributes:
        rotation: degrees; the angle is drawn from 0 to this.
        horizontal_flip: mirror left and right half of the time.
        vertical_flip: mirror top and bottom half of the time.
        scale: least and greatest stretch, drawn for each axis; then a window is cut out.
        window: height and width of what is cut out, multiples of 32; None takes the input's size. Objects in a smaller
            window keep the scale that they have in the whole image, and a step costs less.
        around_objects: share of the windows that are placed about the image's objects instead of anywhere in it: where
            the box around all objects is smaller than the window, the window holds it whole, else it lies within the
            box, both before the rotation. Where objects fill a part of the image only, as a plant in a tray does, most
            of a window is spent on them then, and a smaller one does.
        color_jitter: brightness, contrast and saturation are each multiplied by 1 +- up to this.
        copy_paste: objects of the training images that are laid over an image on average, before all else; done by
            `TrainingSet`, which has the other images. See `panembed.training.copy_paste.CopyPaste`.
    """

    rotation: float = 360.0
    horizontal_flip: bool = True
    vertical_flip: bool = False
    scale: tuple[float, float] = (1.0, 1.5)
    window: tuple[int, int] | None = None
    around_objects: float = 0.0
    color_jitter: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise SettingsError(f"augmentation.scale: expected 0 < least <= greatest, found {list(self.scale)}")
        if not 0 <= self.around_objects <= 1:
            raise SettingsError(f"augmentation.around_objects: expected a share of 0 to 1, found {self.around_objects}")
        if self.window is not None and any(side < STRIDE or side % STRIDE for side in self.window):
            raise SettingsError(f"augmentation.window: expected multiples of {STRIDE}, found {list(self.window)}")

    def recolour(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Change brightness, contrast and saturation of a whole 3xHxW float32 image, 0..255."""
        if not self.color_jitter:
            return image
        low, high = 1 - self.color_jitter, 1 + self.color_jitter
        brightness, contrast, saturation = rng.uniform(low, high, size=3)
        image = F.adjust_brightness(image / 255, brightness)
        changed: Tensor = F.adjust_saturation(F.adjust_contrast(image, contrast), saturation) * 255
        return changed

    def __call__(
        self, image: Tensor, labels: Tensor, rng: np.random.Generator, preparation: Preparation
    ) -> tuple[Tensor, Tensor]:
        """Turn, mirror, stretch and cut an image and its labels alike.

        Args:
            image: 3xHxW float32, 0..255.
            labels: LxHxW float32 of whole numbers below 2**24, 0 where nothing is labelled; the last are
                instances.
            rng: where all random numbers come from.
            preparation: its size is the one that images are stretched to; with fit "native" its scale counts instead.

        Returns:
            Image 3xhxw and labels Lxhxw, of the window's size.
        """
        height, width = image.shape[1:]
        whole_height, whole_width = preparation.size
        out_height, out_width = self.window or preparation.size
        native = preparation.fit == "native"
        # Pixels of the source that one pixel of the output spans, before stretching.
        step_y, step_x = height / whole_height, width / whole_width
        if native:
            step_y = step_x = 1 / preparation.scale
        stretch_y, stretch_x = rng.uniform(*self.scale, size=2)
        step_y, step_x = step_y / stretch_y, step_x / stretch_x
        # Where the window's centre lies, from the image's centre.
        room_y, room_x = max(0.0, height - out_height * step_y) / 2, max(0.0, width - out_width * step_x) / 2
        shift_y, shift_x = rng.uniform(-room_y, room_y), rng.uniform(-room_x, room_x)
        angle = math.radians(rng.uniform(0.0, self.rotation)) if self.rotation else 0.0
        flip_x = -1.0 if self.horizontal_flip and rng.random() < 0.5 else 1.0
        flip_y = -1.0 if self.vertical_flip and rng.random() < 0.5 else 1.0
        cos, sin = math.cos(angle), math.sin(angle)
        # Output pixels to source pixels, both from the centre: window, then flip and rotation about the image's centre;
        # at native scale about the window's, which else would leave the image.
        window = np.diag([flip_x * step_x * out_width / 2, flip_y * step_y * out_height / 2])
        rotation = np.array([[cos, -sin], [sin, cos]])
        offset = np.array([shift_x, shift_y])
        if not native:
            offset = rotation @ offset
        if self.around_objects and rng.random() < self.around_objects:
            reach = np.array([step_x * out_width / 2, step_y * out_height / 2])
            offset = _about_objects(labels[-1], reach, rng, otherwise=offset)
        matrix = np.column_stack([rotation @ window, offset])
        matrix /= np.array([[width / 2], [height / 2]])
        theta = torch.from_numpy(matrix.astype(np.float32))[None]
        grid = affine_grid(theta, [1, 1, out_height, out_width], align_corners=False)
        image = grid_sample(image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
        labels = grid_sample(labels[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]
        return image, labels


def _about_objects(
    instance: Tensor, reach: NDArray[np.float64], rng: np.random.Generator, otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centre, x and y from the image's centre, of a window that reaches so far, within the image as far as it fits.

    Without objects it is `otherwise`.
    """
    inside = instance > 0
    if not inside.any():
        return otherwise
    centre = []
    for axis, far in ((0, reach[0]), (1, reach[1])):
        half = inside.shape[1 - axis] / 2
        occupied = np.flatnonzero(inside.any(axis).numpy())
        ends = sorted((occupied[0] - half + far, occupied[-1] + 1 - half - far))
        room = max(0.0, half - far)
        centre.append(rng.uniform(*np.clip(ends, -room, room)))
    return np.array(centre)


class TrainingSet(TorchDataset[TrainingExample]):
    """Images of a data set, read and resized once, then kept in memory as far as they fit.

    Args:
        dataset: where they come from.
        ids: which of them.
        preparation: size and normalisation of the network's input.
        augmentation: None shows every image as prediction would see it (for validation).
        source_scale: keep images at this times the input's size; only with fit "resize" and augmentation.
        seed: of the augmentation.
        max_bytes: see `StoredImages`.
        each: see `StoredImages`.

    Raises:
        SettingsError: objects are to be pasted, and the images hold none.

    Items are asked for as (epoch, index).
    """

    def __init__(
        self,
        dataset: Dataset,
        ids: tuple[str, ...],
        preparation: Preparation,
        augmentation: Augmentation | None = None,
        *,
        source_scale: float = 1.0,
        seed: int = 0,
        max_bytes: int = MAX_BYTES,
        each: Callable[[Sample, Sample], None] | None = None,
    ) -> None:
        self.preparation = preparation
        self.augmentation = augmentation
        self.seed = seed
        self.ids = ids
        scale = source_scale if augmentation is not None else 1.0
        height, width = preparation.size
        size = (round(height * scale), round(width * scale)) if preparation.fit == "resize" else None
        self._kept = StoredImages(dataset, ids, size, view=preparation.view, each=each, max_bytes=max_bytes)
        self._paste: CopyPaste | None = None
        if augmentation is not None and augmentation.copy_paste > 0:
            self._paste = CopyPaste(
                self._kept,
                dataset.label_set.things,
                augmentation.copy_paste,
                rotation=augmentation.rotation,
                horizontal_flip=augmentation.horizontal_flip,
                vertical_flip=augmentation.vertical_flip,
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_signals(self) -> int:
        """How many images show a single signal in colour, and are seen as grey."""
        return self._kept.num_signals

    @property
    def has_objects(self) -> bool:
        """Whether any image shows an object."""
        return self._kept.has_objects

    def class_shares(self, num_classes: int) -> NDArray[np.float64]:
        """The share that each class has of all labelled pixels; 0 for one that doesn't occur."""
        counts = self._kept.class_counts[:num_classes]
        return np.asarray(counts / max(1, counts.sum()))

    def __getitem__(self, key: tuple[int, int]) -> TrainingExample:
        epoch, index = key
        image, labels = self._kept[index]
        if self.augmentation is None:
            array = self.preparation.prepare(image.permute(1, 2, 0).numpy())
            prepared = torch.from_numpy(array)
            size = self.preparation.stretched(labels.shape[1], labels.shape[2])
            if tuple(labels.shape[1:]) != size:
                labels = torch.stack(
                    [torch.from_numpy(resize_nearest(one.long().numpy(), size)) for one in labels]
                ).float()
            below, right = array.shape[1] - labels.shape[1], array.shape[2] - labels.shape[2]
            # No label on the padding.
            labels = torch.nn.functional.pad(labels, (0, right, 0, below))
        else:
            rng = np.random.default_rng([self.seed, epoch, index])
            pasted, labels = (image.float(), labels) if self._paste is None else self._paste(index, rng)
            whole = self.augmentation.recolour(pasted, rng)
            changed, labels = self.augmentation(whole, labels, rng, self.preparation)
            # As bright among others as in prediction, which sees the whole image.
            statistics = self.preparation.statistics(whole.numpy())
            prepared = torch.from_numpy(self.preparation.normalize(changed.numpy(), statistics))
        # Labels are kept plus one, so that what lies outside the image, 0, has none.
        semantic, instance = labels[0].long() - 1, labels[1].int()
        return TrainingExample(prepared, torch.where(semantic < 0, IGNORE, semantic), instance)


def collate(examples: list[TrainingExample]) -> TrainingExample:
    """Stack examples of one size into a batch: image BxCxHxW channels-last, semantic and instance BxHxW."""
    image = torch.stack([e.image for e in examples]).contiguous(memory_format=torch.channels_last)
    return TrainingExample(
        image, torch.stack([e.semantic for e in examples]), torch.stack([e.instance for e in examples])
    )
