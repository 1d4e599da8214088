"""Put a trained model into the package: src/panembed/models/shipped/NAME, with rounded weights, a graph and a card.

For maintainers:

    panembed evaluate --model runs/leaf --data cvppp --output runs/leaf/test
    python tools/ship_model.py runs/leaf leaf --card leaf.md --scores runs/leaf/test

CARD.md is a filled copy of tools/model_card.md. The scores are those of the weights that were evaluated; for those of
the rounded weights, evaluate by name (`--model leaf`) once it is shipped, and ship it again with these scores and
--overwrite.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any

import typer

from panembed.assembly import trained_model
from panembed.assembly.export import export
from panembed.errors import InputError, OutputError, PanembedError, SettingsError
from panembed.inference import model_folder
from panembed.inference.model_config import CARD, ModelConfig, input_of, read_config
from panembed.io.atomic import write_text
from panembed.models.pretrained import save_model

MAX_BYTES = 25_000_000
"""Of all files of one model: the package is downloaded by everybody."""

WRITTEN = (
    "What it is for",
    "What it is not for",
    "Data",
    "Terms of the data",
    "Citation",
    "Speed",
    "Where it fails",
    "Licence",
)
"""Headings that a maintainer fills."""

NUM_WORST = 3

# An absolute path of two parts and more, of any system, that is no part of a URL; or one in somebody's home.
PATH_HERE = re.compile(r"(?<![\w.:/~-])(?:/[\w.-]+/[\w./-]+|~/[\w./-]+|[A-Za-z]:\\[\w.\\-]+)")

# Title, key in metrics.json, column of per_image.csv, factor (fractions become percent), decimals.
MEASURES: tuple[tuple[str, tuple[str, ...], str | None, int, int], ...] = (
    ("things PQ", ("things", "pq"), "pq_things", 100, 1),
    ("things SQ", ("things", "sq"), "sq_things", 100, 1),
    ("things RQ", ("things", "rq"), "rq_things", 100, 1),
    ("stuff PQ", ("stuff", "pq"), "pq_stuff", 100, 1),
    ("SBD", ("sbd",), "sbd", 100, 1),
    ("\\|DiC\\|, objects", ("abs_dic",), "abs_dic", 1, 2),
    ("AP50", ("ap50",), None, 100, 1),
)


def ship(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder or model folder")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="what users will call it")],
    card: Annotated[Path, typer.Option(metavar="CARD.md", help="a filled copy of tools/model_card.md")],
    scores: Annotated[Path, typer.Option(metavar="DIR", help="what `panembed evaluate` wrote for its test images")],
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="failures, on images whose terms allow to publish them"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the shipped model of that name")] = False,
) -> None:
    """Put a trained model into the package."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise SettingsError(f"NAME {name!r}: expected small letters, digits and single hyphens, such as leaf")
    target = model_folder.SHIPPED / name
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: is there already; choose another name, or replace it with --overwrite")
    texts = read_card(card)
    source = model_folder.resolve_model_folder(run)
    config = read_config(source)
    metrics, rows = read_scores(scores, config.split)
    config = publishable(config, metrics)
    if picture is not None and (picture.suffix.lower() != ".png" or not picture.is_file()):
        raise InputError(f"--picture {picture}: expected a PNG file")
    network = trained_model.network(source, *trained_model.read_settings(source, config))

    model_folder.SHIPPED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model_folder.SHIPPED, prefix=".") as temporary:
        made = Path(temporary) / name
        made.mkdir()
        save_model(made, network, config, half=True)
        export(made)
        if picture is not None:
            shutil.copyfile(picture, made / "failures.png")
        # All but the card, which is a few kB and says so itself.
        weight = size_of(made) - (made / CARD).stat().st_size
        text = card_text(name, texts, config, metrics, rows, num_bytes=weight, picture=picture is not None)
        refuse_paths(text, f"the card made of {card}")
        write_text(made / CARD, text)
        if size_of(made) > MAX_BYTES:
            raise OutputError(
                f"{run}: {size_of(made) / 1e6:.1f} MB in half precision, but a shipped model may have "
                f"{MAX_BYTES / 1e6:.0f}; take a smaller encoder"
            )
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    typer.echo(f"{target}: {size_of(target) / 1e6:.1f} MB")


def size_of(folder: Path) -> int:
    """Bytes of all files of a model."""
    return sum(path.stat().st_size for path in folder.iterdir())


def read_card(path: Path) -> dict[str, str]:
    """What a maintainer wrote below each heading of `WRITTEN`, and before the first one under an empty name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--card {path}: can't be read; expected a filled copy of tools/model_card.md") from error
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    before, *sections = re.split(r"^## +", text, flags=re.MULTILINE)
    texts = {"": before.strip()}
    for section in sections:
        heading, _, body = section.partition("\n")
        texts[heading.strip()] = body.strip()
    for heading in texts.keys() - {"", *WRITTEN}:
        near = difflib.get_close_matches(heading, WRITTEN, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{path}: unknown heading {heading!r}; expected those of tools/model_card.md{hint}")
    for heading in WRITTEN:
        if not texts.get(heading):
            raise InputError(f"{path}: nothing is written below '## {heading}'; a card without it doesn't ship")
    return texts


def read_scores(folder: Path, split: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What `panembed evaluate` measured: over all images, and for each; they must be the split's test images."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        with (folder / "per_image.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise InputError(f"--scores {folder}: expected metrics.json and per_image.csv of panembed evaluate") from error
    if metrics.get("overrides"):
        raise InputError(
            f"--scores {folder}: are of other settings, {', '.join(metrics['overrides'])}; score the model as it is"
        )
    found, wanted = {row["id"] for row in rows}, set(split["test"])
    if found != wanted or not wanted:
        odd = min(found ^ wanted, default="none")
        raise InputError(
            f"--scores {folder}: {len(found)} images, but the model's split has {len(wanted)} for testing "
            f"({odd!r} is on one side only); score exactly these: panembed evaluate --split test"
        )
    return metrics, rows


def publishable(config: ModelConfig, metrics: Mapping[str, Any]) -> ModelConfig:
    """What of config.json may be published, with the scores on held-out images; places on this machine are cut off."""
    settings = json.loads(json.dumps(config.settings))
    for key in ("encoder_weights", "start_from"):
        if settings["model"].get(key):
            settings["model"][key] = PurePath(settings["model"][key]).name
    held_out: dict[str, Any] = {"images": metrics["images"], "objects": metrics["objects_true"]}
    for _, keys, _, _, _ in MEASURES:
        held_out["_".join(keys)] = value_at(metrics, keys)
    made = ModelConfig(settings, config.categories, config.split, {**config.metrics, "held_out": held_out}, config.seen)
    for text in strings([made.settings, made.categories, made.split, made.metrics, list(made.seen)]):
        refuse_paths(text, "config.json")
    return made


def strings(data: Any) -> Iterator[str]:
    """Every text in plain data, keys too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        yield from strings([*data.keys(), *data.values()])
    elif isinstance(data, list):
        for part in data:
            yield from strings(part)


def refuse_paths(text: str, where: str) -> None:
    """Raise InputError where a text names a place on somebody's machine."""
    found = PATH_HERE.search(text)
    if found:
        raise InputError(f"{where}: {found[0]!r} is a path on this machine; take it out before others read it")


def value_at(metrics: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """A score by its keys in metrics.json; None where these data have none."""
    value: Any = metrics
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def score_table(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    """Each score over all images together, and its mean and sample standard deviation over single images."""
    lines = ["| percent | all images together | mean over images ± standard deviation |", "|---|---:|---:|"]
    for title, keys, column, factor, digits in MEASURES:
        value = value_at(metrics, keys)
        if value is None:
            continue
        single = [factor * float(row[column]) for row in rows if row.get(column)] if column else []
        spread = "-"
        if len(single) > 1:
            spread = f"{statistics.fmean(single):.{digits}f} ± {statistics.stdev(single):.{digits}f}"
        lines.append(f"| {title} | {factor * value:.{digits}f} | {spread} |")
    return "\n".join(lines)


def worst_images(rows: Sequence[Mapping[str, str]]) -> str:
    """Ids of the images with the lowest things PQ."""
    ranked = sorted((row for row in rows if row.get("pq_things")), key=lambda row: float(row["pq_things"]))
    return ", ".join(f"`{row['id']}` ({100 * float(row['pq_things']):.1f})" for row in ranked[:NUM_WORST])


def card_text(
    name: str,
    texts: Mapping[str, str],
    config: ModelConfig,
    metrics: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    *,
    num_bytes: int,
    picture: bool,
) -> str:
    """The whole card: what was written, and what run and scores say."""
    settings, split = config.settings, config.split
    model, given = settings["model"], settings["input"]
    classes = {
        kind: ", ".join(c["name"] for c in config.categories if bool(c["isthing"]) is isthing) or "none"
        for kind, isthing in (("Things", True), ("Stuff", False))
    }
    sizes = ", ".join(f"{len(split[part])} for {use}" for part, use in _USES)
    fails = texts["Where it fails"] + ("\n\n![Failures](failures.png)" if picture else "")
    sections = {
        "What it is for": texts["What it is for"],
        "What it is not for": texts["What it is not for"],
        "Data": texts["Data"],
        "Terms of the data": texts["Terms of the data"],
        "Citation": texts["Citation"],
        "Split and seed": f"{sizes} (the ids are in config.json); drawn with seed {split['seed']}, trained with seed "
        f"{settings['training']['seed']}.",
        "Scores": f"On the {metrics['images']} test images with {metrics['objects_true']} objects, at the images' own "
        f"size, without ground-truth foreground.\n\n{score_table(metrics, rows)}\n\n"
        f"Lowest things PQ: {worst_images(rows)}.\n\n"
        f"Again, with these data in DATA: `panembed evaluate --model {name} --data DATA --output SCORES`.",
        "Size": f"{num_bytes / 1e6:.1f} MB; weights as float16, computed with as float32.",
        "Speed": texts["Speed"],
        "Where it fails": fails,
        "Licence": texts["Licence"],
        "Use": f"`panembed predict --model {name} IMAGE... --output DIR`, or "
        f'`panembed.load("{name}").predict("photo.png")`.',
    }
    attention = ", scSE" if model["attention"] else ""
    begin = (
        f"{model['architecture']} with encoder {model['encoder']}{attention}, embedding size {model['embedding_dim']}. "
        f"Things: {classes['Things']}. Stuff: {classes['Stuff']}. Input: {input_of(given)}."
    )
    parts = [f"# {name}, a panembed model", texts[""], begin]
    parts += [f"## {heading}\n\n{text}" for heading, text in sections.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


_USES = (("train", "training"), ("val", "validation"), ("test", "testing"))


def main() -> None:
    """Run the command line; a mistake is one sentence."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(ship)
    try:
        app()
    except PanembedError as error:
        print(f"ship_model: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
