"""Objects of training images laid over training images, so that overlaps are seen that no photograph shows.

As in "Simple Copy-Paste" (Ghiasi et al. 2021), but object by object, each put where other objects are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from panembed.errors import SettingsError

MIN_AREA = 20
"""Pixels that an object must show to be one."""

MIN_SHARE = 0.2
"""Share of its area that an object must show to be one."""

MAX_CONTACT = 0.25
"""Share of an object's rim that may touch other objects; of one that touches more, a part is likely to be hidden."""

_SCALE = (0.7, 1.3)
_SAME_IMAGE = 0.5
_ALIKE = torch.tensor([1.5, 1.5, 1.5, 4.0]).log()
_TRIES = 20


@dataclass(frozen=True, slots=True)
class _Source:
    """An object seen whole: its image, its id there, its class index + 1, and its box."""

    image: int
    id: int
    category: int
    box: tuple[slice, slice]


class CopyPaste:
    """Pastes objects of a set of images into one of them.

    A Poisson number of objects is drawn, among those that seem to be seen whole: not cut by the image's border, and
    with three quarters of their rim not touching others. Each comes from the same image half of the time, else from any
    whose objects of its class are alike: their mean colours within a factor of 1.5 (no fluorescent nucleus in stained
    tissue), their mean areas within 4. It is turned and mirrored as far as the augmentation goes, scaled by 0.7 to 1.3,
    and tinted by the ratio of those mean colours. One of its pixels, drawn at random, comes to lie on a pixel of the
    objects that are there, so it touches or covers them; in an image without objects it lies anywhere. Its rim is mixed
    with what is beneath over one pixel, and takes its colour from within: labels reach a little too far, and an outline
    of soil would give the paste away.

    Covered pixels are no longer the lower object's. Of an object that shows less than a fifth of its area, or less
    than 20 pixels, the rest keeps its class but belongs to no object: what class it is remains certain, so the
    cross-entropy counts it; but that a sliver had to be told from its neighbours would be too much to ask. A pasted
    object that would show so little, at the image's border, isn't pasted.

    Args:
        kept: image 3xHxW uint8 and labels 2xHxW float32 of every image: class index + 1 (0 for ignore), and instance
            numbered from 1 within the image over all classes.
        things: class indices that have objects.
        count: objects pasted into an image on average.
        rotation: degrees; the angle is drawn from 0 to this.
        horizontal_flip: mirror left and right half of the time.
        vertical_flip: mirror top and bottom half of the time.

    Raises:
        SettingsError: there is nothing to paste: no object of 20 pixels or more that seems to be seen whole.

    >>> image, labels = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.ones(2, 32, 32)
    >>> labels[1], labels[:, 10:20, 10:20] = 0, torch.tensor([2.0, 1.0])[:, None, None]
    >>> paste = CopyPaste([(image, labels)], [1], 5.0)
    >>> _, changed = paste(0, np.random.default_rng(0))
    >>> changed[1].max() > 1, changed[0][changed[1] > 0].unique().tolist()
    (tensor(True), [2.0])
    """

    def __init__(
        self,
        kept: Sequence[tuple[Tensor, Tensor]],
        things: Sequence[int],
        count: float,
        *,
        rotation: float = 360.0,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
    ) -> None:
        self.count = count
        self.rotation, self.horizontal_flip, self.vertical_flip = rotation, horizontal_flip, vertical_flip
        self._kept = kept
        self._sources = [_whole_objects(index, labels, things) for index, (_, labels) in enumerate(kept)]
        self._with_objects = [index for index, sources in enumerate(self._sources) if sources]
        if not self._with_objects:
            raise SettingsError(
                f"augmentation.copy_paste: the training images hold no object of {MIN_AREA} pixels or more that "
                "neither the border cuts nor others touch all around; expected some to paste; set it to 0"
            )
        self._looks = [_looks(image, labels) for image, labels in kept]

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Paste into the image of this index.

        Args:
            index: of the image.
            rng: where all random numbers come from.

        Returns:
            Image 3xHxW float32, 0..255, and labels 2xHxW float32; new ones, with the new objects' ids after the others.
        """
        image, labels = self._kept[index]
        image, labels = image.float(), labels.clone()
        # Of each id, all its pixels, and those that still show.
        area = np.bincount(labels[1].int().numpy().ravel()).tolist()
        shown = list(area)
        for _ in range(rng.poisson(self.count)):
            source = self._draw(index, rng)
            if source is None:
                continue
            color, alpha = self._turn(source, self._contrast(source, index)[:3].exp(), rng)
            place = _place(alpha, labels[1], rng)
            if place is None:
                continue
            there, here = place
            alpha_there = alpha[here]
            solid = alpha_there >= 0.5
            whole, visible = int((alpha >= 0.5).sum()), int(solid.sum())
            if visible < max(MIN_AREA, MIN_SHARE * whole):
                continue
            region = image[:, *there]
            region *= 1 - alpha_there
            region += color[:, *here]
            below = np.bincount(labels[1][there][solid].int().numpy(), minlength=len(area))
            labels[0][there][solid] = float(source.category)
            labels[1][there][solid] = float(len(area))
            for id in np.flatnonzero(below[1:]) + 1:
                shown[id] -= int(below[id])
                if shown[id] < max(MIN_AREA, MIN_SHARE * area[id]):
                    labels[1][labels[1] == float(id)] = 0.0
            area.append(whole)
            shown.append(visible)
        return image, labels

    def _draw(self, index: int, rng: np.random.Generator) -> _Source | None:
        """An object that fits the image of this index; None where none is found soon."""
        own = self._sources[index]
        if own and rng.random() < _SAME_IMAGE:
            return own[rng.integers(len(own))]
        for _ in range(_TRIES):
            sources = self._sources[self._with_objects[rng.integers(len(self._with_objects))]]
            source = sources[rng.integers(len(sources))]
            if bool((self._contrast(source, index).abs() <= _ALIKE).all()):
                return source
        return None

    def _contrast(self, source: _Source, index: int) -> Tensor:
        """Logarithms of how much redder, greener, bluer and larger than there the objects of its class are here."""
        theirs = self._looks[source.image][source.category]
        return self._looks[index].get(source.category, theirs) - theirs

    def _turn(self, source: _Source, tint: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The object turned, mirrored and scaled: colour times opacity 3xhxw, and opacity hxw, 0..1."""
        image, labels = self._kept[source.image]
        inside = labels[1][source.box].numpy() == source.id
        mask = torch.from_numpy(inside.astype(np.float32))
        color = torch.from_numpy(_without_outline(image[:, *source.box].numpy(), inside))
        # Times the mask before interpolation: no colour of the background gets in.
        color = (color * tint[:, None, None]).clamp_(max=255) * mask
        height, width = mask.shape
        scale = rng.uniform(*_SCALE)
        angle = math.radians(rng.uniform(0.0, self.rotation)) if self.rotation else 0.0
        flip_x = -1.0 if self.horizontal_flip and rng.random() < 0.5 else 1.0
        flip_y = -1.0 if self.vertical_flip and rng.random() < 0.5 else 1.0
        cos, sin = math.cos(angle), math.sin(angle)
        # One pixel more on each side for the soft rim.
        out_height = math.ceil(scale * (abs(sin) * width + abs(cos) * height)) + 2
        out_width = math.ceil(scale * (abs(cos) * width + abs(sin) * height)) + 2
        back = np.diag([flip_x, flip_y]) @ np.array([[cos, sin], [-sin, cos]]) / scale
        matrix = np.diag([1 / width, 1 / height]) @ back @ np.diag([out_width, out_height])
        theta = torch.from_numpy(np.column_stack([matrix, np.zeros(2)]).astype(np.float32))[None]
        grid = affine_grid(theta, [1, 1, out_height, out_width], align_corners=False)
        turned = grid_sample(torch.cat([color, mask[None]])[None], grid, mode="bilinear", align_corners=False)[0]
        return turned[:3], turned[3]


def _without_outline(color: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """3xhxw colours, where the object's outermost pixels have those of the nearest pixel further inside.

    Parts too thin to have an inside, such as stalks, keep theirs.
    """
    core = ndimage.binary_erosion(inside, np.ones((3, 3), bool))
    if not core.any():
        return color
    distance, nearest = ndimage.distance_transform_edt(~core, return_indices=True)
    # Two pixels diagonally: as far as the erosion reached.
    return np.where(distance < 1.5, color[:, *nearest], color)


def _place(
    alpha: Tensor, instance: Tensor, rng: np.random.Generator
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where the object comes to lie in the image, and its part that lies inside; None if it is too thin to see."""
    solid = np.flatnonzero(alpha.numpy() >= 0.5)
    if solid.size == 0:
        return None
    objects: NDArray[np.intp] = np.flatnonzero(instance.numpy() > 0)
    position = int(objects[rng.integers(objects.size)]) if objects.size else int(rng.integers(instance.numel()))
    there_yx = divmod(position, instance.shape[1])
    here_yx = divmod(int(solid[rng.integers(solid.size)]), alpha.shape[1])
    there, here = [], []
    for axis in (0, 1):
        start = there_yx[axis] - here_yx[axis]
        first, last = max(0, start), min(instance.shape[axis], start + alpha.shape[axis])
        there.append(slice(first, last))
        here.append(slice(first - start, last - start))
    return (there[0], there[1]), (here[0], here[1])


def _whole_objects(index: int, labels: Tensor, things: Sequence[int]) -> list[_Source]:
    """Objects of things that neither the image's border nor, as far as one can tell, another object cuts."""
    classes, instance = labels[0].int().numpy(), labels[1].int().numpy()
    height, width = instance.shape
    found = []
    boxes: Sequence[Any] = ndimage.find_objects(instance)  # None for numbers that don't occur
    for id, box in enumerate(boxes, start=1):
        if box is None:
            continue
        ys, xs = box
        if ys.start == 0 or xs.start == 0 or ys.stop == height or xs.stop == width:
            continue
        around = slice(ys.start - 1, ys.stop + 1), slice(xs.start - 1, xs.stop + 1)
        mask = instance[around] == id
        category = int(classes[around][mask][0])
        rim = instance[around][ndimage.binary_dilation(mask) & ~mask]
        if category - 1 in things and mask.sum() >= MIN_AREA and np.mean(rim > 0) <= MAX_CONTACT:
            found.append(_Source(index, id, category, (ys, xs)))
    return found


def _looks(image: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """For each class (index + 1), logarithms of its objects' mean red, green and blue, and of their mean area."""
    classes, instance = labels[0].numpy(), labels[1].numpy()
    looks = {}
    for category in np.unique(classes[instance > 0]):
        mask = (classes == category) & (instance > 0)
        area = mask.sum() / len(np.unique(instance[mask]))
        color = image.numpy()[:, mask].mean(axis=1)
        # Plus one, that black stays within bounds.
        looks[int(category)] = torch.from_numpy(np.log([*(color + 1), area]).astype(np.float32))
    return looks
