"""Tables of what a data set holds, of errors, oracles and trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from panembed.datasets.census import Census
from panembed.evaluation.oracle import COLUMNS, VARIANTS, shown
from panembed.labels.categories import IGNORE, LabelSet
from panembed.metrics.error_census import PREDICTED_LABELS, TRUE_LABELS
from panembed.report.error_colors import PREDICTED_NAMES, TRUE_NAMES, error_name

_MANY_CLASSES = 30


def census_table(census: Census, label_set: LabelSet) -> Table:
    """One row per class: share of pixels, images, objects per image, object sizes."""
    sizes = ", ".join(f"{n} of {w}x{h}" for (h, w), n in census.sizes.most_common(6))
    more = f" and {len(census.sizes) - 6} more sizes" if len(census.sizes) > 6 else ""
    caption = f"{census.images} images (width x height: {sizes}{more}); {len(census.broken)} can't be used"
    caption += "; in brackets the median"
    table = Table(
        "id",
        "class",
        "kind",
        "images",
        "pixels",
        "objects",
        "per image",
        "area, px",
        caption=caption,
        caption_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    total = max(1, sum(census.pixels.values()))
    # COCO has 133 classes, most of which a small folder shows nowhere.
    absent = [i for i in range(len(label_set)) if not census.images_with[i]] if len(label_set) > _MANY_CLASSES else []
    if absent:
        table.caption = f"{caption}; {len(absent)} of {len(label_set)} classes are in none of them and not listed"
    for index, category in enumerate(label_set):
        if index in absent:
            continue
        row = [str(category.id), escape(category.name), "thing" if category.is_thing else "stuff"]
        row += [str(census.images_with[index]), f"{100 * census.pixels[index] / total:.1f} %"]
        if category.is_thing:
            objects, areas = census.objects[index], census.areas[index]
            row += [str(sum(objects)), _short_range(objects), _short_range(areas)]
        table.add_row(*row)
    if census.pixels[IGNORE]:
        share = f"{100 * census.pixels[IGNORE] / total:.1f} %"
        table.add_row("", "without class", "", str(census.images_with[IGNORE]), share)
    return table


def census_notes(census: Census, left_out: int = 0, not_read: Sequence[str] = (), ids: Sequence[str] = ()) -> list[str]:
    """Lines that follow the table: kinds of files, objects per image, and what is worth a second look."""
    lines = []
    for what, kinds in (("image files", census.image_kinds), ("label files", census.label_kinds)):
        if kinds:
            lines.append(f"{what}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    if census.per_image:
        lines.append(f"objects per image: {_range(census.per_image)}")
    if nested := [id for id in ids if "/" in id]:
        places = sorted({id.rpartition("/")[0] for id in nested})
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        lines.append(f"{len(nested)} of {len(ids)} images lie in sub-folders: {', '.join(places[:5])}{more}")
    if not_read:
        more = f" and {len(not_read) - 5} more" if len(not_read) > 5 else ""
        lines.append(
            f"{len(not_read)} files of kinds that are not read, left out: {', '.join(not_read[:5])}{more}; save them "
            "as PNG, JPEG, BMP or TIFF"
        )
    if left_out:
        lines.append(f"{left_out} images without annotation are left out")
    for what, counts in sorted(census.losses.items()):
        more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
        lines.append(f"not kept, {what}: {sum(counts.values()):,}, in {', '.join(list(counts)[:5])}{more}")
    for oddity, ids in sorted(census.suspicious.items()):
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        lines.append(f"worth a look, {oddity}: {', '.join(ids[:5])}{more}")
    return lines


def _short_range(values: list[int]) -> str:
    return f"{min(values)}-{max(values)} ({np.median(values):.0f})" if values else "-"


def _range(values: list[int]) -> str:
    return f"{min(values)} to {max(values)}, median {np.median(values):.0f}" if values else "-"


def error_table(census: Mapping[str, Any]) -> Table:
    """What became of the true objects, of all and by size; below it what the predicted ones are.

    Args:
        census: what `panembed.metrics.error_census.ErrorCensus.compute` gives.
    """
    sizes = census["by_size"]
    heads = ["", "all", "share", *(f"≤{group['area_to']}" for group in sizes)]
    rows = []
    for title, counts, labels, names in (
        ("true objects", census["true"], TRUE_LABELS, TRUE_NAMES),
        ("predicted objects", census["predicted"], PREDICTED_LABELS, PREDICTED_NAMES),
    ):
        groups = sizes if counts is census["true"] else []
        rows.append([title, str(counts["objects"]), "", *(str(group["objects"]) for group in groups)])
        for label in labels:
            shares = [_share(counts[label], counts["objects"])]
            shares += [_share(group[label], group["objects"]) for group in groups]
            rows.append([f"  {error_name(label, names)}", str(counts[label]), *shares])
    caption = "found: IoU > 0.5 with an object of its class; true objects also by area in pixels"
    rows = [row + [""] * (len(heads) - len(row)) for row in rows]
    table = _figures_table(heads, rows, caption)
    table.rows[len(TRUE_LABELS)].end_section = True
    return table


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.0f} %" if of else "-"


def oracle_table(table: Mapping[str, Mapping[str, float | None]]) -> Table:
    """One row for each way to score the same network outputs; see `panembed.evaluation.oracle`."""
    columns = list(next(iter(table.values())))
    return _figures_table(
        ["network outputs", *(COLUMNS[name] for name in columns)],
        [[VARIANTS[name], *(shown(column, row[column]) for column in columns)] for name, row in table.items()],
        "true classes: the truth's class mask; true centres: means of the true objects' embeddings instead of modes",
    )


def trials_table(
    path: Sequence[Mapping[str, Any]], names: Sequence[str], maximize: str, trials: int, images: int
) -> Table:
    """The settings of these names that a search came by, from the present to the best."""
    # As many columns as a terminal of 80 characters shows whole.
    figures = [n for n in ("pq_things", "sbd", "abs_dic", "counts") if n in path[0]]
    figures += ["pq"] if maximize == "pq" or len(figures) == 1 else []
    rows = [
        [*("-" if row[name] is None else f"{row[name]:g}" for name in names), *(shown(f, row[f]) for f in figures)]
        for row in path
    ]
    caption = (
        f"{trials} trials on {images} images to maximize {COLUMNS[maximize]}; from the present settings to the best"
    )
    heads = [name.replace("_", " ") for name in names]
    return _figures_table([*heads, *(COLUMNS[name] for name in figures)], rows, caption)


def _figures_table(heads: list[str], rows: list[list[str]], caption: str) -> Table:
    table = Table(*heads, caption=caption, caption_justify="left")
    # Only headings break, at spaces.
    table.columns[0].min_width = max(map(len, (*heads[0].split(), *(row[0] for row in rows))))
    for number, (column, head) in enumerate(zip(table.columns[1:], heads[1:]), 1):
        column.justify = "right"
        column.width = max(map(len, (*head.split(), *(row[number] for row in rows))))  # only headings break, at spaces
    for row in rows:
        table.add_row(*row)
    return table
