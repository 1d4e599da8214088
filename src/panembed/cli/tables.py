"""Tables of what a data set holds."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from panembed.datasets.census import Census
from panembed.labels import IGNORE, LabelSet

_MANY_CLASSES = 30


def census_table(census: Census, label_set: LabelSet) -> Table:
    """One row per class: share of pixels, images, objects per image, object sizes."""
    sizes = ", ".join(f"{n} of {w}x{h}" for (h, w), n in census.sizes.most_common(6))
    more = f" and {len(census.sizes) - 6} more sizes" if len(census.sizes) > 6 else ""
    caption = f"{census.images} images (width x height: {sizes}{more}); {len(census.broken)} can't be used"
    table = Table(
        "id",
        "class",
        "kind",
        "images",
        "pixels",
        "objects",
        "per image",
        "object area, px",
        caption=caption,
        caption_justify="left",
    )
    total = max(1, sum(census.pixels.values()))
    # COCO has 133 classes, most of which a small folder shows nowhere.
    absent = [i for i in range(len(label_set)) if not census.images_with[i]] if len(label_set) > _MANY_CLASSES else []
    if absent:
        table.caption = f"{caption}; {len(absent)} of {len(label_set)} classes are in none of them and not listed"
    for index, category in enumerate(label_set):
        if index in absent:
            continue
        row = [str(category.id), category.name, "thing" if category.is_thing else "stuff"]
        row += [str(census.images_with[index]), f"{100 * census.pixels[index] / total:.1f} %"]
        if category.is_thing:
            objects, areas = census.objects[index], census.areas[index]
            row += [str(sum(objects)), _range(objects), _range(areas)]
        table.add_row(*row)
    if census.pixels[IGNORE]:
        share = f"{100 * census.pixels[IGNORE] / total:.1f} %"
        table.add_row("", "without class", "", str(census.images_with[IGNORE]), share)
    return table


def census_notes(census: Census, left_out: int = 0) -> list[str]:
    """Lines that follow the table: kinds of files, objects per image, and what is worth a second look."""
    lines = []
    for what, kinds in (("image files", census.image_kinds), ("label files", census.label_kinds)):
        if kinds:
            lines.append(f"{what}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    if census.per_image:
        lines.append(f"objects per image: {_range(census.per_image)}")
    if left_out:
        lines.append(f"{left_out} images without annotation are left out")
    for oddity, ids in sorted(census.suspicious.items()):
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        lines.append(f"worth a look, {oddity}: {', '.join(ids[:5])}{more}")
    return lines


def _range(values: list[int]) -> str:
    return f"{min(values)} to {max(values)}, median {np.median(values):.0f}" if values else "-"
