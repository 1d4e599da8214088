"""The images of a part of a data set: those that a model's split names, and which of them the model knows already."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from panembed.datasets.sample import Dataset
from panembed.datasets.splits import PARTS, SPLIT_FILE, HasOfficialSplit, Split
from panembed.errors import InputError, SettingsError

logger = logging.getLogger("panembed")


def choose_ids(
    dataset: Dataset, part: str, model_split: Split | None = None, seen: Iterable[str] = ()
) -> tuple[str, ...]:
    """The ids of a part of a data set.

    The split that a model was trained with comes first where the data hold its images: any other might test on images
    that the model has seen. Where the folder has a split of its own and most of the model's images are missing, that
    one; else the one that results on this kind of data are published for. A warning is logged where images of the
    model's part are missing, and where the part has images that the model knows.

    Args:
        dataset: the images.
        part: train, val, test or all.
        model_split: of the model.
        seen: ids that models learned from which this one started from (`ModelConfig.seen`).

    Raises:
        InputError: there is no split, or it has no image in that part.
        SettingsError: there is no such part.
    """
    if part != "all" and part not in PARTS:
        raise SettingsError(f"--split {part!r} is unknown; expected {', '.join(PARTS)} or all")
    known, path = set(dataset.ids), dataset.root / SPLIT_FILE
    wanted = () if model_split is None or part == "all" else model_split.select(part)
    ids = tuple(id for id in wanted if id in known)
    if part == "all":
        ids = tuple(dataset.ids)
    elif ids and (2 * len(ids) >= len(wanted) or not path.exists()):
        if len(ids) < len(wanted):
            missing = next(id for id in wanted if id not in known)
            logger.warning(
                "%s lacks %d of the model's %d %s images, %s among them; only the others are taken",
                *(dataset.root, len(wanted) - len(ids), len(wanted), part, missing),
            )
        model_split = None  # its parts have no image in common
    elif path.exists():
        split = Split.read(path)
        split.check(dataset.ids)
        ids = split.select(part)
        if not ids:
            raise InputError(f"{path}: no image is for {part}; make the split anew, or take another --split")
    elif isinstance(dataset, HasOfficialSplit):
        ids = _official(dataset, part)
        if not ids:
            raise InputError(f"{dataset.root}: its official split has no image for {part}; take another --split")
    else:
        of_model = ""
        if model_split is not None:
            none = f"and none of the model's {len(wanted)}" if wanted else "and the model has no"
            of_model = f" {none} {part} images"
        raise InputError(
            f"{dataset.root}: no {SPLIT_FILE} there{of_model}; make one with `panembed data split {dataset.root}`, or "
            f"take {'--split all' if part == 'test' else 'another --split'}"
        )
    if part != "train":
        _warn_of_known(ids, part, model_split, seen)
    return ids


def has_test(dataset: Dataset) -> bool:
    """Whether the folder has a split, or its kind of data published one with images for testing.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> has_test(SyntheticDataset(2))
    False
    """
    return (dataset.root / SPLIT_FILE).exists() or (
        isinstance(dataset, HasOfficialSplit) and bool(dataset.official_test())
    )


def _official(dataset: HasOfficialSplit, part: str) -> tuple[str, ...]:
    """The ids of a part of the published split."""
    return dataset.official_test() if part == "test" else dataset.official_split().select(part)


def _warn_of_known(ids: Sequence[str], part: str, model_split: Split | None, seen: Iterable[str]) -> None:
    """Say which of the images that are scored, or settings chosen on, a model knows by their names."""
    flatter = "scores on these flatter"
    known = [("a model that this one started from was trained on", seen, flatter)]
    if model_split is not None:
        known.append(("the model was trained on", model_split.train, flatter))
        if part == "val":
            known.append(
                ("are for testing the model", model_split.test, "choose nothing by these, or its scores flatter")
            )
        else:
            known.append(("the model's weights or settings were chosen by", model_split.val, flatter))
    for what, others, so in known:
        if shared := alike(ids, others):
            logger.warning(
                "%d of the %d images have names of images that %s, %s among them; %s",
                *(len(shared), len(ids), what, shared[0], so),
            )


def alike(ids: Iterable[str], others: Iterable[str]) -> list[str]:
    """Those ids that may name the same images as others: equal, but for a folder that one lacks or has joined.

    >>> alike(["A1/plant001", "plant002", "A2/plant003", "A1_plant004"], ["plant001", "A1/plant002", "A1/plant003"])
    ['A1/plant001', 'plant002']
    >>> alike(["A1_plant004"], ["A1/plant004"])
    ['A1_plant004']
    """
    known = set(others)
    flat = {id.replace("/", "_") for id in known}
    bare, last = {id for id in known if "/" not in id}, {id.rpartition("/")[2] for id in known}
    return [id for id in ids if id.replace("/", "_") in flat or id.rpartition("/")[2] in (bare if "/" in id else last)]
