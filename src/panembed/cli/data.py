"""`panembed data`: look at a data set, split it, and write it in another layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from panembed.cli.options import DataFormat, LabelsFile, OutputFolder, Overwrite, open_data, whole_sentence

app = typer.Typer(no_args_is_help=True, help="Look at a data set, split it, convert it.", rich_markup_mode=None)
command = partial(whole_sentence, app)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="data set folder")]


@command("check")
def check(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="also draw contact_sheet.png there")
    ] = None,
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Read every image and label, and tell what is there. Exit code 3 if some can't be used.

    Example: panembed data check cvppp --output look
    """
    from rich.console import Console

    from panembed.cli.console import bar, messages
    from panembed.cli.tables import census_notes, census_table
    from panembed.datasets.census import take_census
    from panembed.datasets.form_limits import form_limits
    from panembed.errors import SettingsError
    from panembed.io.contact_sheet import CONTACT_SHEET_FILE, Gallery
    from panembed.io.legend import write_legend
    from panembed.io.output_folder import claim_folder

    if overwrite and output is None:
        raise SettingsError("--overwrite has no effect without --output; give a folder, or leave it out")
    dataset = open_data(folder, format, labels)
    place = None if output is None else claim_folder(output, overwrite=overwrite)
    gallery = Gallery(dataset.label_set, dataset.ids)
    with bar() as progress:
        task = progress.add_task("reading", total=len(dataset), note="")
        show = None if place is None else lambda sample: gallery.add(sample.id, sample.image, sample.truth)
        census = take_census(dataset, each=lambda id: progress.advance(task), show=show)
    console = Console(highlight=False, soft_wrap=True)
    console.print(census_table(census, dataset.label_set))
    left_out, not_read = getattr(dataset, "left_out", ()), getattr(dataset, "not_read", ())
    for line in census_notes(census, len(left_out), not_read, dataset.ids):
        console.print(line, markup=False)
    for what, forms in form_limits(dataset.label_set, census).items():
        console.print(f"data convert would refuse {', '.join(forms)}: {what}", markup=False)
    if place is not None and len(gallery):
        gallery.write(place / CONTACT_SHEET_FILE)
        write_legend(place, dataset.label_set)
        messages().print(f"{len(gallery)} images drawn in {place / CONTACT_SHEET_FILE}", markup=False)
    for id, reason in census.broken.items():
        messages().print(f"{id}: {reason}", markup=False, soft_wrap=True)
    if census.broken:
        raise typer.Exit(3)


@command("split")
def split(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write; split.json in the folder")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="of the random draw")] = 0,
    fractions: Annotated[tuple[float, float, float], typer.Option(help="training, validation, test")] = (0.6, 0.2, 0.2),
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a split that is there")] = False,
    official: Annotated[
        bool, typer.Option("--official", help="Cityscapes: test on the val folder, draw 80/20 of the train folder")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", metavar="M", help="take the split that this model was trained with, to go on from it"
        ),
    ] = None,
) -> None:
    """Draw a training, validation and test split, and write it to split.json.

    Example: panembed data split my-images

    Example: panembed data split cvppp --model leaf
    """
    from panembed.assembly import trained_model
    from panembed.cli.console import messages
    from panembed.datasets.splits import SPLIT_FILE, HasOfficialSplit, make_split
    from panembed.errors import OutputError, SettingsError

    if model is not None and (official or seed or fractions != (0.6, 0.2, 0.2)):
        raise SettingsError("--model takes the model's split as it is; leave out --official, --seed and --fractions")
    if official and fractions != (0.6, 0.2, 0.2):
        raise SettingsError("--fractions has no effect with --official; give one of the two")
    dataset = open_data(folder, format, labels)
    if official and not isinstance(dataset, HasOfficialSplit):
        raise SettingsError("--official has no effect on this layout, which has no split of its own; leave it out")
    path = output or dataset.root / SPLIT_FILE
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: there is a split already; keep it, or replace it with --overwrite")
    if model is not None:
        whole = trained_model.split_of(model)
        drawn = whole.among(dataset.ids)
        if drawn.size < whole.size:
            messages().print(f"{whole.size - drawn.size} of the {whole.size} images of the model's split are not there")
    elif official:
        drawn = dataset.official_split(seed)
    else:
        drawn = make_split(dataset.ids, seed=seed, fractions=fractions)
        if isinstance(dataset, HasOfficialSplit):
            messages().print("note: results on this kind of data are published for its own split; --official keeps it")
    drawn.write(path)
    messages().print(
        f"{len(drawn.train)} training, {len(drawn.val)} validation, {len(drawn.test)} test images; written to {path}"
    )


@command("convert")
def convert_data(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="LAYOUT",
            help="coco-panoptic, folder, cvppp, cityscapes, packed, coco, masks, stacks, labelme, yolo-seg, "
            "rois, geojson",
        ),
    ],
    output: OutputFolder,
    images: Annotated[
        str,
        typer.Option("--images", metavar="copy|link|none", help="of the photographs; none: COCO and Cityscapes only"),
    ] = ("copy"),
    format: DataFormat = "auto",
    labels: LabelsFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a data set in another layout, segment by segment the same.

    Example: panembed data convert cvppp --to coco-panoptic --output cvppp-coco
    """
    from panembed.cli.console import bar, messages
    from panembed.datasets.convert import check_conversion, convert
    from panembed.io.output_folder import claim_folder
    from panembed.report.tables import counted

    dataset = open_data(folder, format, labels)
    check_conversion(dataset, to, output, images)
    claim_folder(output, overwrite=overwrite)
    with bar() as progress:
        task = progress.add_task("writing", total=len(dataset), note="")
        convert(dataset, to, output, images=images, each=lambda id: progress.advance(task))
    messages().print(f"{counted(len(dataset), 'image')} written to {output} as {to}", markup=False)
