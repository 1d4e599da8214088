"""What is worth saying of single results: how an image was seen, and where it is unlike what the model learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SENTENCES = {
    "signal": "{of} {show} a single signal in colour ({texts}); --set input.channel=rgb takes colours as they are",
    "none": "no object was found in {of}",
    "sizes": "in {of} the objects have other sizes than the model learned ({texts}), and may be in pieces or missed",
    "colours": "{of} {are} unlike all training images in colour or contrast ({texts}); look at the overlays before you "
    "trust the counts",
}
"""By kind; {of} is a number of images."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that may matter for a result, and never stops one.

    Attributes:
        kind: one of `signal` (a single signal in colour was seen as grey), `none` (no object), and, beyond what the
            model learned, `sizes` (of objects) and `colours` (of the image).
        text: in a few words.
    """

    kind: str
    text: str


def sentences(remarks: Sequence[tuple[str, Remark]], num_images: int) -> list[str]:
    """One sentence for every kind of remark: on how many images, and on which.

    Args:
        remarks: the name of a file and a remark on it, in order.
        num_images: all that there are.

    >>> sentences([("a.png", Remark("none", "no object"))], 5)
    ['no object was found in 1 of 5 images: a.png']
    """
    told = []
    for kind, sentence in _SENTENCES.items():
        found = [(name, remark.text) for name, remark in remarks if remark.kind == kind]
        if not found:
            continue
        many = len(found) > 1
        words = {
            "of": f"{len(found)} of {num_images} images" if num_images > 1 else "the image",
            "texts": _some(list(dict.fromkeys(text for _, text in found)), "; "),
            "show": "show" if many else "shows",
            "are": "are" if many else "is",
        }
        told.append(f"{sentence.format(**words)}: {_some([name for name, _ in found], ', ')}")
    return told


def _some(items: list[str], between: str) -> str:
    return between.join(items[:3]) + (f"{between}..." if len(items) > 3 else "")
