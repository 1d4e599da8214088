"""Tables of what a data set holds."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from panembed.datasets.census import Census
from panembed.labels import IGNORE, LabelSet


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
    for index, category in enumerate(label_set):
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


def _range(values: list[int]) -> str:
    return f"{min(values)} to {max(values)}, median {np.median(values):.0f}" if values else "-"
