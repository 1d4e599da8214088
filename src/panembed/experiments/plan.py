"""What an experiment is: variants of settings x seeds in a YAML file, and how far each run is, as its folder tells."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from panembed.assembly.start import keep_architecture, without_encoder
from panembed.datasets.splits import SPLIT_FILE
from panembed.errors import InputError, ModelError, SettingsError, shown
from panembed.io.yaml_text import load_yaml
from panembed.report.experiment_table import COLUMNS, column_of
from panembed.settings.keys import keys_of
from panembed.settings.schema import Settings

SCORES_FILE, FAILURE_FILE = "scores.json", "failure.txt"
"""In the folder of a run that is done, and of one that failed."""

State = Literal["done", "failed", "begun", "to do"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_alias=True, validate_by_name=False)


class Variant(_Part):
    """One row of the table: settings that differ from the experiment's.

    Attributes:
        name: also of its folder.
        about: one sentence for the legend.
        set_: values by keys such as model.embedding_dim.
        from_: a variant whose weights are scored again with another grouping or of images of another size,
            instead of training.
    """

    name: str = Field(pattern=_NAME)
    about: str = ""
    set_: dict[str, Any] = Field(default_factory=dict, alias="set")
    from_: str | None = Field(None, alias="from")


class Published(_Part):
    """Figures to print beside; see `panembed.report.experiment_table.PublishedRow`."""

    name: str
    source: str
    values: dict[str, FiniteFloat]


class Experiment(_Part):
    """What a YAML file asks for; `load` reads and checks it. See docs/experiments.md."""

    title: str
    preset: str | None = None
    config: str | None = None
    seeds: list[Annotated[int, Field(strict=True)]] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    set_: dict[str, Any] = Field(default_factory=dict, alias="set")
    split: dict[str, Any] = Field(default_factory=dict)
    score: Literal["train", "val", "test"] = "test"
    columns: list[str] = Field(
        default_factory=lambda: ["things.pq", "things.sq", "things.rq", "all.pq", "stuff.pq", "sbd", "abs_dic"],
        min_length=1,
    )
    plot: str = "things.pq"
    variants: list[Variant] = Field(min_length=1)
    references: list[Published] = Field(default_factory=list)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experiment:
        """Read an experiment and check all that can be told without data.

        Args:
            path: of the YAML file; `config` in it is relative to it.

        Raises:
            SettingsError: not such a file, an unknown key in it or in the settings of a variant, or things that don't
                go together.
        """
        path = Path(path)
        try:
            data = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(f"{path}: can't be read ({reason}); expected the YAML file of an experiment") from error
        except ValueError as error:
            raise SettingsError(f"{path}: not YAML: {error}") from error
        try:
            json.dumps(data, ensure_ascii=False, default=str).encode("utf-8")
        except UnicodeEncodeError as error:
            letter = error.object[error.start : error.end]
            raise SettingsError(f"{path}: {letter!r} is no letter; expected text") from error
        except (TypeError, ValueError):
            pass  # odd keys and lists that hold themselves; what follows tells of them
        if not isinstance(data, dict):
            raise SettingsError(f"{path}: expected title, preset, variants, ..., found {type(data).__name__}")
        if isinstance(data.get("config"), str):
            data["config"] = str(path.parent / data["config"])
        try:
            experiment = cls.model_validate(data)
        except ValidationError as error:
            raise SettingsError(f"{path}: {_first_mistake(error)}") from None
        try:
            experiment._check()
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None
        return experiment

    def settings(self, variant: Variant, seed: int) -> Settings:
        """All settings of a run; SettingsError names the variant and the key."""
        merged = {f"split.{key}": value for key, value in self.split.items()} | self.set_
        if variant.from_ is not None:
            merged |= self._variant(variant.from_).set_
        merged |= variant.set_ | {"training.seed": seed}
        try:
            overrides = [f"{key}={_as_text(key, value)}" for key, value in merged.items()]
            settings = Settings.load(self.preset, self.config, overrides)
        except SettingsError as error:
            raise SettingsError(f"variant {variant.name}: {error}") from None
        chosen = keys_of("model", overrides) | (settings.model.model_fields_set if self.preset is None else set())
        with contextlib.suppress(ModelError):  # that it isn't there is told where the run is checked
            settings, _ = keep_architecture(settings, chosen)
        try:
            return without_encoder(settings, chosen)
        except SettingsError as error:
            raise SettingsError(f"variant {variant.name}: {error}") from None

    def changes(self, variant: str) -> dict[str, Any]:
        """What a variant sets itself, by keys such as grouping.bandwidth."""
        return dict(self._variant(variant).set_)

    def runs(self, output: Path) -> list[Run]:
        """Every run of the experiment in its order: all variants with the first seed, then with the second, ..."""
        return [
            Run(
                variant.name,
                seed,
                self.settings(variant, seed),
                _folder(output, variant.name, seed),
                None if variant.from_ is None else _folder(output, variant.from_, seed),
            )
            for seed in self.seeds
            for variant in self.variants
        ]

    def select(self, runs: Sequence[Run], only: Sequence[str] = (), seeds: int | None = None) -> list[Run]:
        """Those of some variants, and of those that they take weights from, with the first so many seeds.

        Raises:
            SettingsError: no such variant, or not so many seeds.
        """
        wanted = {self._variant(name).name for name in only} or {variant.name for variant in self.variants}
        wanted |= {v.from_ for v in self.variants if v.name in wanted and v.from_ is not None}
        if seeds is not None and not 1 <= seeds <= len(self.seeds):
            raise SettingsError(f"--seeds {seeds}: expected 1 to {len(self.seeds)}, the seeds that the experiment has")
        return [run for run in runs if run.variant in wanted and run.seed in self.seeds[:seeds]]

    def shown_columns(self) -> list[str]:
        """Names of all figures that a table or the picture shows."""
        return list(dict.fromkeys([*self.columns, self.plot, *(name for r in self.references for name in r.values)]))

    def _variant(self, name: str) -> Variant:
        known = {variant.name: variant for variant in self.variants}
        if name not in known:
            raise SettingsError(f"no variant is called {name!r}{_nearest(name, list(known))}")
        return known[name]

    def _check(self) -> None:
        if (self.preset is None) == (self.config is None):
            raise SettingsError("expected one of preset: NAME and config: FILE")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise SettingsError(f"seeds {self.seeds}: expected different numbers from 0")
        for column in self.shown_columns():
            if column_of(column) is None:
                raise SettingsError(f"unknown column {column!r}{_nearest(column, [*COLUMNS, 'per_class.CLASS.pq'])}")
        _check_keys(self.set_, "set")
        above: dict[str, Variant] = {}
        for variant in self.variants:
            where = f"variant {variant.name}"
            _check_keys(variant.set_, where)
            if variant.name.lower() in (name.lower() for name in above):
                raise SettingsError(f"{where}: the name is taken; expected another name for every variant")
            if variant.from_ is not None:
                source = above.get(variant.from_)
                if source is None or source.from_ is not None:
                    raise SettingsError(f"{where}: from {variant.from_!r}: expected a variant above it that trains")
                shown = ("input.size", "input.scale")
                other = [key for key in variant.set_ if not key.startswith("grouping.") and key not in shown]
                if other or not variant.set_:
                    found = f"{other[0]} needs a training of its own; leave out from" if other else "it changes nothing"
                    expected = "expected settings of grouping, input.size or input.scale only"
                    raise SettingsError(f"{where}: from {variant.from_}: {expected}; {found}")
            above[variant.name] = variant
            settings = self.settings(variant, self.seeds[0])
            if variant.from_ is not None and "input.size" in variant.set_ and settings.input.fit == "native":
                raise SettingsError(
                    f"{where}: input.size changes nothing where input.fit is native; set input.scale, or leave out from"
                )


@dataclass(frozen=True, slots=True)
class Run:
    """A variant with a seed.

    Attributes:
        variant: its name.
        seed: of the training.
        settings: of the run.
        folder: of the run.
        source: folder of the run whose weights it takes; None where it trains its own.
    """

    variant: str
    seed: int
    settings: Settings
    folder: Path
    source: Path | None = None

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    def failure(self) -> str | None:
        """Why the run failed, in one sentence; None where it didn't."""
        path = self.folder / FAILURE_FILE
        return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else None

    def state(self, part: str) -> State:
        """How far it is, if the part of the images that is scored has this name.

        Raises:
            SettingsError: the run there was made with other settings; names the key.
        """
        scores = read_scores(self.folder)
        if scores is not None:
            self._compare("from", self.source and self.source.parent.name, scores["from"])
            self._compare_settings(Settings.from_mapping(scores["settings"], str(self.folder / SCORES_FILE)))
            if scores["score"] == part and not self._is_outdated(scores):
                return "done"
        config = self.folder / "config.yaml"
        if config.is_file() and self.source is None:
            self._compare_settings(Settings.load(config=config))
        if self.failure() is not None:
            return "failed"
        return "begun" if self.is_begun() else "to do"

    def _is_outdated(self, scores: dict[str, Any]) -> bool:
        """Whether the weights were taken from a training that has been made again since, or is gone."""
        if self.source is None:
            return False
        source = read_scores(self.source)
        return source is None or source.get("weights") != scores.get("weights")

    def is_begun(self) -> bool:
        """Whether there is a training to go on with; `assembly.run.train` writes the split last of what that takes."""
        return (self.folder / "config.yaml").is_file() and (self.folder / SPLIT_FILE).is_file()

    def _compare_settings(self, found: Settings) -> None:
        ours, theirs = self.settings.model_dump(), found.model_dump()
        for section, values in ours.items():
            if isinstance(values, dict) and isinstance(theirs[section], dict):
                for key in values | theirs[section]:
                    self._compare(f"{section}.{key}", values.get(key), theirs[section].get(key))
            else:
                self._compare(section, values, theirs[section])

    def _compare(self, key: str, asked: Any, found: Any) -> None:
        if asked != found:
            raise SettingsError(
                f"{self}: {key} is {asked!r} now, but the run in {self.folder} was made with {found!r}; "
                "give the variant another name, delete that folder, or choose another output"
            )


def read_scores(folder: Path) -> dict[str, Any] | None:
    """What scores.json of a run's folder holds; None where there is none, InputError where it is damaged."""
    path = folder / SCORES_FILE
    data: Any = None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        pass
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error
    if not isinstance(data, dict) or not {"from", "score", "settings", "metrics", "train_seconds"} <= data.keys():
        raise InputError(f"{path}: is damaged; delete it, and the run is scored again")
    return data


def _as_text(key: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{key}: expected numbers, text, lists or mappings, found {shown(value)}") from error


def _folder(output: Path, variant: str, seed: int) -> Path:
    return output / "runs" / variant / f"seed-{seed}"


def _check_keys(settings: Mapping[str, Any], where: str) -> None:
    common = {"training.seed": "seeds:", "split": "split:", "labels": "a labels.yaml beside the data"}
    for key in settings:
        section = key.partition(".")[0]
        if key in common or section in common:
            instead = common.get(key) or common[section]
            raise SettingsError(f"{where}: {key} must be the same for all variants; set it by {instead}")
        if section == key:
            raise SettingsError(f"{where}: found key {key!r}; expected one in its section, such as model.embedding_dim")


def _first_mistake(error: ValidationError) -> str:
    mistakes = error.errors()
    # A misspelt key is missing under its right name, too.
    first = next((mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"), mistakes[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_place_of(first['loc'])}"
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: found {shown(first['input'])}; {first['msg'].replace('Input should', 'it should')}"


def _place_of(path: tuple[int | str, ...]) -> str:
    """What may have been meant by an unknown key at that path, and where it goes if it belongs elsewhere."""
    places: dict[str, type[BaseModel]] = {"": Experiment, "variants": Variant, "references": Published}
    keys = {place: [field.alias or name for name, field in part.model_fields.items()] for place, part in places.items()}
    here = str(path[0]) if len(path) > 1 and path[0] in places else ""
    name = str(path[-1])
    for place, known in keys.items():
        if place != here and name in known:
            return f"; it belongs {'into an entry of ' + place if place else 'to the experiment as a whole'}"
    return _nearest(name, keys[here])


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(dict.fromkeys(known))}"
