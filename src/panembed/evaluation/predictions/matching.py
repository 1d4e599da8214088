"""Which prediction is for which image: found by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from panembed.datasets.coco_instances import CocoInstancesDataset
from panembed.datasets.coco_panoptic import CocoPanopticDataset
from panembed.datasets.folder import composed
from panembed.datasets.sample import Dataset, FileDataset
from panembed.errors import InputError
from panembed.evaluation.predictions.stored import Predictions
from panembed.io.image_files import IMAGE_SUFFIXES
from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap

_ENDINGS = ("_leftImg8bit", "_rgb")


@dataclass(frozen=True, slots=True)
class MatchedPredictions:
    """Predictions by the ids of the truth.

    Attributes:
        predictions: where they are.
        place: of every image with a prediction, its place in `predictions.names`.
        missing: ids without a prediction; each is read as an empty map, void everywhere.
        strange: files of predictions that no image of the truth is called like.
    """

    predictions: Predictions
    place: dict[str, int]
    missing: tuple[str, ...]
    strange: tuple[Path, ...]

    def read(self, id: str, shape: tuple[int, int]) -> PanopticMap:
        """The prediction for an image.

        Args:
            id: of the truth.
            shape: height and width of the truth in pixels.

        Raises:
            InputError: it can't be read, or has another size.
        """
        if id not in self.place:
            return PanopticMap(np.full(shape, IGNORE, dtype=np.uint8), np.zeros(shape, dtype=np.int32))
        prediction = self.predictions.read(self.place[id])
        if prediction.shape != shape:
            raise InputError(
                f"{self.predictions.path(self.place[id])}: is {_size(prediction.shape)} pixels, but the truth of {id} "
                f"is {_size(shape)}; expected the same size; scale it without mixing numbers (nearest neighbour)"
            )
        return prediction


def match_predictions(
    predictions: Predictions, dataset: Dataset, ids: Iterable[str], *, allow_missing: bool = False
) -> MatchedPredictions:
    """Find the prediction of every image by its name.

    An image goes by its id (`A1/plant001`) and by the names of its files (`A1/plant001_rgb`, `A1/plant001_label`),
    with or without the folders in front; folders that both have must agree. A prediction that no name fits goes
    without the ending of CVPPP's or Cityscapes' photographs. Letters with marks are the same however Unicode spells
    them. Where truth and predictions are COCO panoptic files, the image id counts where no name fits; one that is a
    number only if the predictions list no images.

    Args:
        predictions: what there is.
        dataset: the truth.
        ids: the images that will be scored.
        allow_missing: take an empty map where there is no prediction.

    Raises:
        InputError: an image has no prediction (and `allow_missing` is off, or none has one), a prediction fits two
            images, or two predictions fit one image.

    >>> import tempfile
    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> from panembed.datasets.layout import open_dataset
    >>> from panembed.evaluation.predictions.stored import open_predictions
    >>> nuclei = open_dataset(sample_nuclei_path())
    >>> found = open_predictions(sample_nuclei_path() / "labels", nuclei.label_set)
    >>> matched = match_predictions(found, nuclei, nuclei.ids[:3])
    >>> len(matched.place), matched.missing, matched.strange
    (3, (), ())
    """
    ids = list(ids)
    index: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for id in dataset.ids:
        for name in _truth_names(dataset, id):
            parts = PurePosixPath(composed(name)).parts
            index.setdefault(parts[-1], []).append((parts, id))
    place: dict[str, int] = {}
    later, strange = [], []
    for position, names in enumerate(predictions.names):
        owner = _owner(names, index, predictions.path(position))
        if owner is None:
            later.append(position)
        elif owner in place:
            raise InputError(
                f"{predictions.path(position)}: is a second prediction for {owner}, beside "
                f"{predictions.path(place[owner])}; expected one; remove or rename the other"
            )
        else:
            place[owner] = position
    for position in later:
        # Photographs lose these endings where a data set is written in another layout.
        bare = tuple(name.removesuffix(end) for name in predictions.names[position] for end in _ENDINGS)
        owner = _owner(bare, index, predictions.path(position))
        if owner is None or owner in place:
            strange.append(predictions.path(position))
        else:
            place[owner] = position
    missing = tuple(id for id in ids if id not in place)
    if missing and (not allow_missing or len(missing) == len(ids)):
        others = f" and {len(missing) - 1} more of {len(ids)} images" if len(missing) > 1 else ""
        wanted = [PurePosixPath(name).name for name in _truth_names(dataset, missing[0])]
        names = tuple(dict.fromkeys(name for name in wanted if not name.startswith("#")))
        advice = "add it, or count missing ones as empty with --allow-missing"
        if len(missing) == len(ids):
            advice = "no prediction has the name of an image"
            if strange:
                advice += f"; they are called like {predictions.names[0][0]!r}"
        raise InputError(
            f"{predictions.source}: has no prediction for {missing[0]}{others}; expected the name "
            f"{' or '.join(names)}; {advice}"
        )
    return MatchedPredictions(predictions, {id: place[id] for id in ids if id in place}, missing, tuple(strange))


def _truth_names(dataset: Dataset, id: str) -> list[str]:
    folder = PurePosixPath(id).parent
    paths = [dataset.image_path(id)]
    if isinstance(dataset, FileDataset) and dataset.label_path(id).suffix.lower() in IMAGE_SUFFIXES:
        paths.append(dataset.label_path(id))
    names = [id, *(str(folder / path.stem) for path in paths)]
    if isinstance(dataset, CocoPanopticDataset | CocoInstancesDataset):
        image_id = dataset.image_ids[id]
        names.append(image_id if isinstance(image_id, str) else f"#{image_id}")
    return list(dict.fromkeys(names))


def _owner(names: tuple[str, ...], index: dict[str, list[tuple[tuple[str, ...], str]]], path: Path) -> str | None:
    """The id whose name is the same, or the end of the other; the first of the prediction's names that fits counts."""
    for name in names:
        parts = PurePosixPath(composed(name)).parts
        near = index.get(parts[-1], []) if parts else []
        exact = {id for own, id in near if own == parts}
        fitting = exact or {id for own, id in near if own[-len(parts) :] == parts[-len(own) :]}
        if len(fitting) > 1:
            first, second = sorted(fitting)[:2]
            raise InputError(
                f"{path}: could be the prediction for {first} or for {second}; expected sub-folders as the truth has "
                "them, or give the truth of one sub-folder as --data"
            )
        if fitting:
            return fitting.pop()
    return None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
