"""Which images train, which decide when to stop, and which judge."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from panembed.errors import InputError, SettingsError
from panembed.io.atomic import write_json

if TYPE_CHECKING:
    from panembed.datasets.sample import Dataset

SPLIT_FILE = "split.json"
"""The name a split has beside its data."""

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """A data set's ids in three parts.

    Attributes:
        train: ids to learn from.
        val: ids to choose settings and the moment to stop by.
        test: ids to report figures on.
        seed: of the draw.
        fractions: of train, val and test, that were asked for.

    >>> make_split(["a", "b", "c", "d", "e"]).select("val")
    ('b',)
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    seed: int = 0
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)

    def select(self, name: str) -> tuple[str, ...]:
        """The ids of one part.

        Args:
            name: train, val or test.

        Raises:
            SettingsError: another name.
        """
        if name not in PARTS:
            near = difflib.get_close_matches(name, PARTS, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"split {name!r} is unknown; expected train, val or test{hint}")
        ids: tuple[str, ...] = getattr(self, name)
        return ids

    @property
    def size(self) -> int:
        """Number of images in all parts."""
        return sum(len(self.select(part)) for part in PARTS)

    def among(self, dataset_ids: Iterable[str]) -> Split:
        """The split of those images that a data set has, each in its part.

        Raises:
            InputError: it has none of them.

        >>> Split(("a", "b"), ("c",), ("d",)).among(["a", "d", "e"]).test
        ('d',)
        """
        known = set(dataset_ids)
        train, val, test = (tuple(id for id in self.select(part) if id in known) for part in PARTS)
        if not (train or val or test):
            first = next(iter(self.train + self.val + self.test), None)
            raise InputError(
                f"split: none of its {self.size} images, such as {first!r}, is in the data; expected images of these "
                "names; draw a split of its own"
            )
        return replace(self, train=train, val=val, test=test)

    def check(self, dataset_ids: Iterable[str]) -> None:
        """Make sure that the split fits the data. Ids of the data that are in no part are allowed.

        Args:
            dataset_ids: all ids of the data set.

        Raises:
            InputError: the split names an id that the data lack, or an id is in two parts.
        """
        known = set(dataset_ids)
        seen: dict[str, str] = {}
        for part in PARTS:
            for id in self.select(part):
                if id in seen:
                    raise InputError(
                        f"split: {id!r} is in {seen[id]} and in {part}; expected every image in one part; make the "
                        "split again"
                    )
                seen[id] = part
        missing = sorted(seen.keys() - known)
        if missing:
            raise InputError(
                f"split: {missing[0]!r} is in {seen[missing[0]]} but not in the data ({len(missing)} of {len(seen)} "
                "ids are missing); check that the split belongs to this folder, or make it again"
            )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all; OutputError where the place can't be written."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Split:
        """Read what `write` wrote.

        Args:
            path: a JSON file with lists of ids under `train`, `val` and `test`; `seed` and `fractions` are optional.

        Raises:
            InputError: the file is missing or holds something else.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; expected a split; make one with `panembed data split`") from error
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not valid JSON ({error}); expected a split; make it again") from error
        return cls.from_plain(data, str(path))

    @classmethod
    def from_plain(cls, data: Any, where: str) -> Split:
        """Make one of what `asdict` gives, or JSON holds of it.

        Args:
            data: a mapping with lists of ids under `train`, `val` and `test`; `seed` and `fractions` are optional.
            where: it comes from, for errors.

        Raises:
            InputError: it is something else.

        >>> Split.from_plain({"train": ["a"], "val": [], "test": ["b"]}, "split.json").size
        2
        """
        if not isinstance(data, dict):
            raise InputError(f"{where}: holds a {type(data).__name__}; expected train, val and test with lists of ids")
        allowed = (*PARTS, "seed", "fractions")
        for key in data:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(f"{where}: unknown key {key!r}; expected {', '.join(allowed)}{hint}")
        parts = {name: _ids(where, name, data.get(name)) for name in PARTS}
        seed, fractions = data.get("seed", 0), data.get("fractions", [0.6, 0.2, 0.2])
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError(f"{where}: seed is {seed!r}; expected a whole number")
        if not (isinstance(fractions, list) and len(fractions) == 3 and all(_is_number(f) for f in fractions)):
            raise InputError(f"{where}: fractions is {fractions!r}; expected three numbers")
        train, val, test = (float(fraction) for fraction in fractions)
        return cls(**parts, seed=seed, fractions=(train, val, test))


@runtime_checkable
class HasOfficialSplit(Protocol):
    """A data set with a split of its own that published results are reported for, such as Cityscapes.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> isinstance(SyntheticDataset(2), HasOfficialSplit)
    False
    """

    def official_split(self, seed: int = 0) -> Split:
        """That split; what it leaves open is drawn by the seed."""
        ...

    def official_test(self) -> tuple[str, ...]:
        """Its images for testing, whether or not there are any for training."""
        ...


def _ids(where: str, name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(id, str) for id in value):
        raise InputError(f"{where}: {name} is {str(value)[:60]!r}; expected a list of image names")
    return tuple(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def choose_split(dataset: Dataset, *, seed: int, fractions: tuple[float, float, float], official: bool) -> Split:
    """The data folder's own split, else the one that its kind of data is reported for, else a seeded draw.

    Args:
        dataset: whose ids are split.
        seed: of the draw.
        fractions: of training, validation and test images, for the draw.
        official: take the split that the kind of data is reported for, where it has one.

    Raises:
        InputError: the folder's split doesn't fit the data, or has no training image.
    """
    path = dataset.root / SPLIT_FILE
    if path.exists():
        split = Split.read(path)
        split.check(dataset.ids)
        if not split.train:
            raise InputError(f"{path}: no image is for train; make the split anew")
        return split
    if official and isinstance(dataset, HasOfficialSplit):
        return dataset.official_split(seed)
    return make_split(dataset.ids, seed=seed, fractions=fractions)


def make_split(ids: Iterable[str], *, seed: int = 0, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Split:
    """Draw train, val and test at random.

    The draw depends on the ids and the seed only: not on the order of the ids, the computer, or the version of any
    library (ids are ordered by the SHA-256 of seed and id). The default fractions are those of Zachow
    2022, section 4.1.

    Args:
        ids: of a data set, each once, three or more.
        seed: any whole number; another seed, another draw.
        fractions: of train, val and test; from 0 to 1, their sum 1. A part whose fraction isn't 0 gets one id at least.

    Returns:
        A split with every id in exactly one part, sorted within the part.

    Raises:
        InputError: fewer than three ids, or an id occurs twice.
        SettingsError: fractions that aren't.

    >>> split = make_split([f"plant{i:03}" for i in range(10)], seed=1)
    >>> len(split.train), len(split.val), len(split.test)
    (6, 2, 2)
    """
    if len(fractions) != 3 or not all(_is_number(f) and 0 <= f <= 1 for f in fractions) or fractions[0] == 0:
        raise SettingsError(f"fractions {fractions}: expected three numbers from 0 to 1, the first above 0")
    if abs(sum(fractions) - 1) > 1e-6:
        raise SettingsError(f"fractions {fractions}: their sum is {sum(fractions):g}; expected 1")
    given = sorted(ids)
    twice = [a for a, b in itertools.pairwise(given) if a == b]
    if twice:
        raise InputError(f"{twice[0]!r} occurs twice; expected every image once")
    if len(given) < 3:
        raise InputError(f"found {len(given)} images; a split into train, val and test needs 3 or more; add images")
    drawn = sorted(given, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest())
    num_train, num_val, _ = _sizes(len(given), fractions)
    train, val, test = drawn[:num_train], drawn[num_train : num_train + num_val], drawn[num_train + num_val :]
    kept = (float(fractions[0]), float(fractions[1]), float(fractions[2]))
    return Split(tuple(sorted(train)), tuple(sorted(val)), tuple(sorted(test)), seed, kept)


def _sizes(total: int, fractions: tuple[float, float, float]) -> list[int]:
    """Shares by largest remainder, one at least for every fraction above 0."""
    exact = [total * fraction for fraction in fractions]
    # 0.29 * 100 is a hair below 29: round the noise away before cutting.
    sizes = [max(math.floor(round(share, 6)), int(share > 0)) for share in exact]
    while sum(sizes) < total:
        part = max(range(3), key=lambda i: exact[i] - sizes[i])
        sizes[part] += 1
    while sum(sizes) > total:
        part = max(range(3), key=lambda i: (sizes[i] > 1, sizes[i] - exact[i]))
        sizes[part] -= 1
    return sizes
