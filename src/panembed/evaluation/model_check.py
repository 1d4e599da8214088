"""Whether a model gives on this machine what it gave where its outputs were stored.

A model's folder may hold `check/`: some pictures, the panoptic map of each (`PICTURE_instances.png`,
`PICTURE_semantic.png`, as `predict` writes them), and `outputs.json` with the network's outputs at some pixels. Two
machines never agree to the last bit, so both are compared with a tolerance: `OUTPUT_TOLERANCE`, `LEAST_SAME_PIXELS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError, ModelError
from panembed.inference.predictor import PanopticModel
from panembed.io.atomic import write_json
from panembed.io.images import read_image, write_png
from panembed.io.label_images import read_label_image
from panembed.results.result import PanopticResult

FOLDER, OUTPUTS = "check", "outputs.json"

GRID = 48
"""The network's outputs are stored at every so many pixels, in both directions."""

OUTPUT_TOLERANCE = 0.02
"""An output y may differ from the stored y' by this times 1 + |y'|. Runtimes on CPUs differ by some 0.00001, half
precision on a GPU by up to 0.01."""

LEAST_SAME_PIXELS = 0.995
"""Share of the pixels that must belong to the same object, or to none, as in the stored map."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a model gives on one picture, beside what is stored.

    Attributes:
        picture: its file.
        largest_difference: of the network's outputs, |y - y'| / (1 + |y'|).
        same_pixels: share of the pixels that lie in the same object, 0..1.
        objects: how many are found.
        stored_objects: how many were.

    >>> Comparison(Path("a.png"), 1e-6, 1.0, 7, 7).same
    True
    >>> Comparison(Path("a.png"), 1e-6, 1.0, 7, 8).fault
    'a.png: 7 objects, and 8 are stored'
    """

    picture: Path
    largest_difference: float
    same_pixels: float
    objects: int
    stored_objects: int

    @property
    def fault(self) -> str | None:
        """What differs by more than the tolerance; None where nothing does."""
        if self.largest_difference > OUTPUT_TOLERANCE:
            return (
                f"{self.picture.name}: the network's outputs differ from the stored ones by "
                f"{self.largest_difference:.2g}, and at most {OUTPUT_TOLERANCE} is expected"
            )
        if self.objects != self.stored_objects:
            return f"{self.picture.name}: {self.objects} objects, and {self.stored_objects} are stored"
        if self.same_pixels < LEAST_SAME_PIXELS:
            return (
                f"{self.picture.name}: {self.same_pixels:.2%} of the pixels lie in the same object as in the stored "
                f"map, and at least {LEAST_SAME_PIXELS:.1%} are expected"
            )
        return None

    @property
    def same(self) -> bool:
        """Whether the result is the same, within the tolerances."""
        return self.fault is None


def store_outputs(model: PanopticModel, images: Mapping[str, NDArray[np.uint8]], folder: Path) -> None:
    """Write what `compare_outputs` reads.

    Args:
        model: whose outputs are stored.
        images: HxWx3 uint8 by their names.
        folder: of the model; `check/` in it is made, and what is there of the same names replaced.

    Raises:
        OutputError: the folder can't be written.
    """
    place = folder / FOLDER
    outputs = {}
    for name, image in images.items():
        result = model.predict(image, name=name)
        for path in result.save(place):
            if path.stem.endswith("_overlay"):
                path.unlink()
        write_png(place / f"{name}.png", image)
        outputs[name] = [[float(f"{value:.5g}") for value in points] for points in _sampled(model, image)]
    write_json(place / OUTPUTS, {"grid": GRID, "pictures": outputs}, indent=None)


def compare_outputs(model: PanopticModel, folder: Path) -> list[Comparison]:
    """Run a model on the pictures that its folder holds the outputs of.

    Args:
        model: to run.
        folder: of the model.

    Raises:
        ModelError: nothing is stored there, or it is damaged.
    """
    place = folder / FOLDER
    try:
        pictures = _read(place / OUTPUTS)
        return [_compare(model, place, name, stored) for name, stored in sorted(pictures.items())]
    except InputError as error:
        raise ModelError(f"{error}; what is stored to check the model is damaged: install panembed again") from error


def _read(path: Path) -> dict[str, list[list[float]]]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        pictures = {str(name): [list(map(float, points)) for points in rows] for name, rows in data["pictures"].items()}
        if data["grid"] != GRID or not pictures:
            raise ValueError(f"grid {data['grid']}, {len(pictures)} pictures")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected the stored outputs of the model") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: does not hold stored outputs ({type(error).__name__}: {error})") from error
    return pictures


def _sampled(model: PanopticModel, image: NDArray[np.uint8]) -> list[list[float]]:
    """The network's scores, embeddings and seeds, at every `GRID`-th pixel."""
    outputs = model.backend(model.preparation.prepare(image)[None])
    return [output[0, :, GRID // 2 :: GRID, GRID // 2 :: GRID].astype(float).ravel().tolist() for output in outputs]


def _compare(model: PanopticModel, place: Path, name: str, stored: list[list[float]]) -> Comparison:
    picture = place / f"{name}.png"
    image = read_image(picture)
    sampled = _sampled(model, image)
    if list(map(len, sampled)) != list(map(len, stored)):
        raise InputError(f"{place / OUTPUTS}: {name} has other numbers of outputs than the network gives")
    difference = max(
        float(np.max(np.abs(np.subtract(found, kept)) / (1 + np.abs(kept)))) for found, kept in zip(sampled, stored)
    )
    result = model.predict(image, name=name)
    same, count = _same_pixels(result, read_label_image(place / f"{name}_instances.png"), picture)
    return Comparison(picture, difference, same, sum(result.counts().values()), count)


def _same_pixels(result: PanopticResult, stored: NDArray[np.int32], picture: Path) -> tuple[float, int]:
    """The share of pixels in the same object, whatever its number, and the number of stored objects."""
    found = result.instance_ids()
    if stored.shape != found.shape:
        raise InputError(f"{picture}: is {found.shape[1]}x{found.shape[0]} pixels, and its stored map is not")
    pairs, counts = np.unique(np.stack([stored.ravel(), found.ravel()]), axis=1, return_counts=True)
    same = 0
    for number in np.unique(pairs[0]):
        of_it = (pairs[0] == number) & ((pairs[1] == 0) == (number == 0))
        same += counts[of_it].max(initial=0)
    return float(same / stored.size), int(np.count_nonzero(np.unique(stored)))
