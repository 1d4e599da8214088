"""What of a data set the layouts that it could be written in have no place for."""

from __future__ import annotations

from panembed.datasets.census import Census
from panembed.datasets.object_forms import OBJECT_FORMS
from panembed.labels.categories import IGNORE, LabelSet

_CVPPP = "cvppp"
_MOST_PACKED = 1000


def form_limits(label_set: LabelSet, census: Census) -> dict[str, list[str]]:
    """Layouts that `panembed.datasets.convert` would refuse to write, by what they can't hold.

    Cityscapes is left out, which takes its own classes only.

    Args:
        label_set: of the data.
        census: of the data.

    >>> from panembed.labels.categories import Category
    >>> field = LabelSet([Category(0, "soil", False), Category(1, "crop", True), Category(2, "weed", True)])
    >>> form_limits(field, Census())
    {'2 classes of things': ['cvppp', 'masks', 'stacks', 'rois']}
    """

    def without(kind: str, default: bool) -> list[str]:
        return [_CVPPP, *(name for name, form in OBJECT_FORMS.items() if not form.keeps.get(kind, default))]

    found: dict[str, list[str]] = {}
    if len(label_set.things) > 1:
        found[f"{len(label_set.things)} classes of things"] = without("classes", True)
    if len(label_set.stuff) > 1:
        found[f"{len(label_set.stuff)} classes of stuff"] = [_CVPPP, *OBJECT_FORMS]
    if census.crowds:
        found[f"groups of objects not told apart, in {_images(len(census.crowds))}"] = without("crowds", False)
    if census.pixels[IGNORE]:
        found[f"pixels without a class, in {_images(census.images_with[IGNORE])}"] = without("void", False)
    crowded = sum(count > _MOST_PACKED for counts in census.objects.values() for count in counts)
    if crowded:
        found[f"more than {_MOST_PACKED:,} objects of a class, in {_images(crowded)}"] = ["packed"]
    return found


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
