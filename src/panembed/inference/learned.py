"""What a model learned from, in a few numbers: sizes of objects, colours and contrast of images, and which pictures.

A result may be wrong without a sign of it where an image is unlike all that the network has seen. These numbers are
kept in the model's config.json, and `remarks` compares an image with them; nothing is ever refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.inference.preparation import Preparation
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.remarks import Remark

_MOST_KEPT = 400
"""Training images whose look is kept; evenly spread where there are more."""

_ROOM = 1.35
"""Sizes are other than learned where they are beyond the learned ones times this."""

_LEAST_DISTANCE = 0.1
"""Between looks that differ at all; training images alone say little where there are few of them."""

_FAR = 1.5
"""A look is new where it is this many times as far from the nearest learned one as any of these from its nearest..."""

_BEYOND = 0.42
"""... and beyond this share of the distance that nine in ten of their pairs keep: who learned much copes with more."""


def picture_digest(image: NDArray[np.uint8]) -> str:
    """A short text that only the same pixels have, whatever file they are in.

    Args:
        image: HxWx3 uint8.

    >>> picture_digest(np.zeros((2, 3, 3), np.uint8)) == picture_digest(np.zeros((3, 2, 3), np.uint8))
    False
    """
    found = hashlib.sha256(repr(image.shape).encode())
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()[:16]


def look(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Colours and contrast of an image, as the network sees it: numbers of about 0 to 1.

    They are: the share of red and of green in all light, once of the whole image and once of its most coloured tenth,
    how much these shares vary, brightness (its root, as eyes see it) at the median, and contrast (from the 1st to the
    99th percentile).

    Args:
        image: HxWx3 uint8.
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / 40_000)))
    pixels = image[::step, ::step].reshape(-1, 3).astype(np.float64)
    light = pixels.sum(1)
    # Of black there is no colour: it counts as grey, as nearly black pixels nearly do.
    shares = (pixels[:, :2] + 10.0) / (light[:, None] + 30.0)
    colour = np.abs(shares - 1 / 3).sum(1)
    coloured = shares[colour >= np.percentile(colour, 90)]
    low, middle, high = np.sqrt(np.percentile(light / 765, (1, 50, 99)))
    return np.array([*(3 * shares.mean(0)), *(3 * coloured.mean(0)), *(3 * shares.std(0)), middle, high - low])


def sizes(panoptic: PanopticMap, thing: int, preparation: Preparation) -> tuple[float, float] | None:
    """Of the objects of a class, in pixels as the network sees them: median diameter, and how thick they are at most.

    The diameter is that of a circle of the object's area. The thickness is twice the greatest distance from a pixel of
    the class to one of another: objects in pieces have small diameters, but together they are as thick as before.

    Args:
        panoptic: HxW.
        thing: the class index.
        preparation: says how images are stretched.
    """
    from scipy import ndimage

    of_class = panoptic.semantic == thing
    numbers = panoptic.instance[of_class & (panoptic.instance > 0)]
    if numbers.size == 0:
        return None
    height, width = preparation.stretched(*panoptic.shape)
    scale = np.sqrt(height * width / (panoptic.shape[0] * panoptic.shape[1]))
    areas = np.unique(numbers, return_counts=True)[1]
    thickness = 2 * float(ndimage.distance_transform_edt(of_class).max()) if not of_class.all() else float(height)
    return scale * float(np.median(np.sqrt(4 * areas / np.pi))), scale * thickness


@dataclass(slots=True)
class Learned:
    """What training images were like.

    Attributes:
        looks: of each image, see `look`; at most 400.
        sizes: for every thing class by its name, median diameter and thickness in each image that shows it.
        pictures: digests of the images.
    """

    looks: list[list[float]] = field(default_factory=list)
    sizes: dict[str, list[list[float]]] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    def add(
        self,
        image: NDArray[np.uint8],
        seen: NDArray[np.uint8],
        truth: PanopticMap,
        things: Mapping[int, str],
        preparation: Preparation,
    ) -> None:
        """Take in a training image.

        Args:
            image: HxWx3 uint8, as it was read.
            seen: what the network sees of it.
            truth: its objects.
            things: name of each thing class index.
            preparation: of the network.
        """
        self.pictures.append(picture_digest(image))
        self.looks.append(look(seen).round(3).tolist())
        for thing, name in things.items():
            found = sizes(truth, thing, preparation)
            if found is not None:
                self.sizes.setdefault(name, []).append([round(float(value), 1) for value in found])

    def to_plain(self) -> dict[str, Any]:
        """As plain data for JSON.

        Looks of at most 400 images; digests of all; and for each class the range of its diameters, its greatest
        thickness, and the least thickness for the diameter (`fullness`) of an image.
        """
        step = -(-len(self.looks) // _MOST_KEPT)
        return {
            "looks": self.looks[:: max(1, step)],
            "sizes": {
                name: {
                    "diameter": [float(min(row[0] for row in rows)), float(max(row[0] for row in rows))],
                    "thickness": float(max(row[1] for row in rows)),
                    "fullness": round(float(min(row[1] / row[0] for row in rows)), 3),
                }
                for name, rows in sorted(self.sizes.items())
            },
            "pictures": sorted(self.pictures),
        }


def remarks(
    learned: Mapping[str, Any],
    seen: NDArray[np.uint8],
    panoptic: PanopticMap,
    things: Mapping[int, str],
    preparation: Preparation,
) -> Iterator[Remark]:
    """Where an image and its objects lie outside what a model learned.

    Args:
        learned: what `Learned.to_plain` gives; what is missing there is not looked at.
        seen: HxWx3 uint8, what the network saw of the image.
        panoptic: the objects found.
        things: name of each thing class index.
        preparation: of the network.
    """
    looks = np.asarray(learned.get("looks", []), dtype=np.float64)
    if looks.ndim == 2 and len(looks) and _is_new(look(seen), looks):
        yield Remark("colours", "colours or contrast unlike the training images'")
    for thing, name in things.items():
        if text := _other_sizes(learned.get("sizes", {}).get(name), sizes(panoptic, thing, preparation), preparation):
            yield Remark("sizes", f"{name}: {text}" if len(things) > 1 else text)


def _is_new(one: NDArray[np.float64], looks: NDArray[np.float64]) -> bool:
    """Whether a look is far from all learned ones, as far as these are from their nearest."""
    if looks.shape[1] != len(one):
        return False
    nearest = np.sqrt(np.square(looks - one).sum(1)).min()
    among = np.sqrt(np.square(looks[:, None] - looks).sum(2))
    spread = float(np.percentile(among, 90))
    np.fill_diagonal(among, np.inf)
    own = float(among.min(1).max()) if len(looks) > 1 else 0.0
    return bool(nearest > max(_LEAST_DISTANCE, _FAR * own, _BEYOND * spread))


def _other_sizes(learned: Any, found: tuple[float, float] | None, preparation: Preparation) -> str | None:
    if learned is None or found is None:
        return None
    (low, high), thickness = map(float, learned["diameter"]), float(learned["thickness"])
    middle = float(np.sqrt(low * high))
    if found[1] > _ROOM * thickness or found[0] > _ROOM * high:
        factor = min(thickness / found[1], middle / found[0])
        return f"objects larger than learned; {_advice(factor, preparation)}"
    if found[1] / found[0] < float(learned["fullness"]) / _ROOM:
        # The network saw rims and specks of objects that are beyond its field of view.
        return f"objects in slivers or rings, as of larger objects than learned; {_advice(0.4, preparation)}"
    if found[0] < low / _ROOM:
        return f"objects smaller than learned; {_advice(middle / found[0], preparation)}"
    return None


def _advice(factor: float, preparation: Preparation) -> str:
    if preparation.fit == "resize":
        what = "crop images to the objects" if factor > 1 else "give images with more around the objects"
        return f"{what}, which should fill {factor:.1f} times as much of the height"
    return f"try --set input.scale={preparation.scale * factor:.2g}"


def is_learned(data: Any) -> bool:
    """Whether plain data are what `Learned.to_plain` gives, or a part of it.

    >>> is_learned({}), is_learned({"looks": [[0.1, 0.2]]}), is_learned({"looks": [["a"]]})
    (True, True, False)
    """
    if not isinstance(data, dict):
        return False
    looks, sizes, pictures = data.get("looks", []), data.get("sizes", {}), data.get("pictures", [])
    return (
        isinstance(looks, list)
        and all(_are_numbers(row) and len(row) == len(looks[0]) for row in looks)
        and isinstance(sizes, dict)
        and all(
            isinstance(row, dict)
            and _are_numbers(row.get("diameter"))
            and len(row["diameter"]) == 2
            and _are_numbers([row.get("thickness"), row.get("fullness")])
            and min(*row["diameter"], row["thickness"], row["fullness"]) > 0
            for row in sizes.values()
        )
        and isinstance(pictures, list)
        and all(isinstance(picture, str) for picture in pictures)
    )


def _are_numbers(row: Any) -> bool:
    return isinstance(row, list) and all(isinstance(x, int | float) and abs(x) < float("inf") for x in row)
