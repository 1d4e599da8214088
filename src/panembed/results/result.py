"""What a prediction gives: the map, its picture, its objects, its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panembed.io.coco_panoptic import annotation
from panembed.io.images import write_png
from panembed.io.label_images import write_instances
from panembed.io.measured_channels import Channels, read_channels
from panembed.io.numbers import draw_numbers
from panembed.io.output_folder import claim_folder
from panembed.io.overlay import overlay
from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap, Segment
from panembed.results.measure import measure_objects
from panembed.results.remarks import Remark

if TYPE_CHECKING:
    from roifile import ImagejRoi

    from panembed.labels.outlines import Polygon


class PanopticResult:
    """A panoptic map with its classes and image.

    Args:
        panoptic: HxW.
        label_set: its classes.
        image: HxWx3 uint8, of the same size.
        name: of the image, without folder and suffix.
        scores: how sure each of the K objects is, K floats 0..1 in the order of `objects`, NaN for one that
            was drawn by hand; None where nobody knows.
        pixel_size: side of a pixel; None where it isn't known.
        source: file of the image, whose channels are measured.
        numbers: what the objects are called in pictures and tables, K different ones from 1 in the order of `objects`;
            None counts them.
        remarks: what is worth saying of it.

    Raises:
        ValueError: the name can't be that of a file, or there are not as many scores or numbers as objects.

    >>> from panembed.datasets.synthetic import rosette
    >>> from panembed.labels.categories import Category
    >>> sample = rosette(0, size=64, num_leaves=5)
    >>> leaves = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
    >>> result = PanopticResult(sample.truth, leaves, sample.image, "plant")
    >>> result.counts()
    {'leaf': 5}
    """

    def __init__(
        self,
        panoptic: PanopticMap,
        label_set: LabelSet,
        image: NDArray[np.uint8],
        name: str = "image",
        *,
        scores: NDArray[np.floating] | None = None,
        pixel_size: PixelSize | None = None,
        numbers: Sequence[int] | None = None,
        remarks: Sequence[Remark] = (),
        source: Path | None = None,
    ) -> None:
        if name in ("", ".", "..") or {"/", os.sep, "\0"} & set(name):
            raise ValueError(f"name is {name!r}; expected the name of a file, without folders and without suffix")
        self.panoptic = panoptic
        self.label_set = label_set
        self.image = image
        self.name = name
        self.source = source
        self.scores = scores
        self.pixel_size = pixel_size
        self.remarks = tuple(remarks)
        if scores is not None and len(scores) != len(self.objects):
            raise ValueError(f"scores: expected one for each of {len(self.objects)} objects, found {len(scores)}")
        self._numbers = None if numbers is None else tuple(numbers)
        if numbers is not None and (len(numbers) != len(self.objects) or len(set(numbers)) < len(numbers)):
            raise ValueError(f"numbers: expected {len(self.objects)} different ones, found {list(numbers)}")

    def __repr__(self) -> str:
        return f"PanopticResult({self.name!r}, {self.panoptic.shape[0]}x{self.panoptic.shape[1]}, {self.counts()})"

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks."""
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self.overlay()).save(buffer, format="png")
        return buffer.getvalue()

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """HxW class indices, 255 for void."""
        return self.panoptic.semantic

    @property
    def instance(self) -> NDArray[np.int32]:
        """HxW instance ids within each class, 0 for none."""
        return self.panoptic.instance

    @cached_property
    def _segments(self) -> tuple[NDArray[np.int32], list[Segment]]:
        return self.panoptic.segments(self.label_set)

    @property
    def segments(self) -> list[Segment]:
        """All segments, things and stuff, in the order of their ids."""
        return self._segments[1]

    @cached_property
    def objects(self) -> list[Segment]:
        """The segments that are objects, in the order of `instance_ids`, of `scores` and of the rows of `measure`."""
        return [s for s in self.segments if self.label_set[s.category].is_thing and not s.is_crowd]

    @property
    def numbers(self) -> Sequence[int]:
        """What the objects are called, in the order of `objects`: in `instance_ids`, and as instance_id in tables."""
        return range(1, len(self.objects) + 1) if self._numbers is None else self._numbers

    def counts(self) -> dict[str, int]:
        """Number of objects of each thing class."""
        return {
            self.label_set[i].name: int(np.count_nonzero(np.unique(self.instance[self.semantic == i])))
            for i in self.label_set.things
        }

    def measure(
        self, *, pixel_size: float | PixelSize | None = None, channels: Channels | None = None
    ) -> list[dict[str, Any]]:
        """One row per object: see `panembed.results.measure.measure_objects`.

        Args:
            pixel_size: side of a pixel; None takes the result's own.
            channels: that are measured; None takes those of the file that the image came from, if it is known.
        """
        if channels is None and self.source is not None:
            channels = read_channels(self.source, self.panoptic.shape)
        size = self.pixel_size if pixel_size is None else pixel_size
        return measure_objects(self.panoptic, self.label_set, pixel_size=size, scores=self.scores, channels=channels)

    def overlay(self, *, opacity: float = 0.5, numbered: bool = False) -> NDArray[np.uint8]:
        """The image with its objects' colours over it, HxWx3 uint8; with their numbers, if they are `numbered`."""
        picture = overlay(self.image, self.panoptic, self.label_set, opacity=opacity)
        return draw_numbers(picture, self.instance_ids()) if numbered else picture

    def to_coco(self, image_id: int = 1) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """COCO panoptic: the HxWx3 id picture and the annotation with its segments."""
        return annotation(self.panoptic, self.label_set, image_id, f"{self.name}.png")

    def instance_ids(self) -> NDArray[np.int32]:
        """HxW ids that are unique over all classes, 0 for everything that isn't an object.

        They are `numbers`, and count from 1 in order of class and instance unless others were given; the column
        instance_id of objects.csv has them.
        """
        segment_map, segments = self._segments
        lookup = np.zeros(len(segments) + 1, dtype=np.int32)
        # Groups of objects that are not told apart come last, so that numbers count the others without gaps.
        crowds = [s for s in segments if self.label_set[s.category].is_thing and s.is_crowd]
        lookup[[s.id for s in self.objects]] = self.numbers
        lookup[[s.id for s in crowds]] = max(self.numbers, default=0) + 1 + np.arange(len(crowds))
        return lookup[segment_map]

    def class_ids(self) -> NDArray[np.unsignedinteger]:
        """HxW class ids as the dataset has them, and 255 for void; uint16 and 65,535 where an id doesn't fit 8 bits."""
        ids = np.array([c.id for c in self.label_set], dtype=np.int64)
        dtype: type[np.uint8] | type[np.uint16] = np.uint8 if ids.max() < 255 else np.uint16
        lookup: NDArray[np.unsignedinteger] = np.full(256, np.iinfo(dtype).max, dtype=dtype)
        lookup[: len(ids)] = ids
        return lookup[self.semantic]

    def outlines(self) -> dict[int, list[Polygon]]:
        """Outlines of all objects along the edges of their pixels, by their number in `instance_ids`."""
        return self._outlines

    @cached_property
    def _outlines(self) -> dict[int, list[Polygon]]:
        from panembed.labels.outlines import outlines

        return outlines(self.instance_ids())

    def to_imagej(self) -> list[ImagejRoi]:
        """ImageJ's regions of interest, one an object: see `panembed.results.exports.imagej.rois`."""
        from panembed.results.exports.imagej import rois

        return rois(self)

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON feature collection for QuPath: see `panembed.results.exports.geojson.feature_collection`."""
        from panembed.results.exports.geojson import feature_collection

        return feature_collection(self)

    def to_coco_instances(self, *, rle: bool = False) -> list[dict[str, Any]]:
        """COCO instance annotations, with polygons or run-length codes.

        See `panembed.results.exports.coco_instances.instance_annotations`.
        """
        from panembed.results.exports.coco_instances import instance_annotations

        return instance_annotations(self, "rle" if rle else "polygons")

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO segmentation label file: see `panembed.results.exports.yolo.lines`."""
        from panembed.results.exports.yolo import lines

        return lines(self)

    def save(self, folder: str | os.PathLike[str], *, numbered: bool = False) -> list[Path]:
        """Write NAME_instances.png (uint16; .tif uint32 beyond 65,535 objects), NAME_semantic.png, NAME_overlay.png.

        The semantic picture holds class ids, and 255 (65,535 where an id doesn't fit 8 bits) for void. The folder is
        made where it is missing; files of the same names are replaced. The overlay shows the numbers of the objects if
        they are `numbered`.

        Raises:
            OutputError: the folder can't be made or written.
        """
        folder = claim_folder(folder, overwrite=True)
        instances = write_instances(folder / f"{self.name}_instances.png", self.instance_ids())
        # The other of the two kinds, of an earlier result, would be taken for this one's.
        other = ".tif" if instances.suffix == ".png" else ".png"
        instances.with_name(f"{self.name}_instances{other}").unlink(missing_ok=True)
        write_png(folder / f"{self.name}_semantic.png", self.class_ids())
        write_png(folder / f"{self.name}_overlay.png", self.overlay(numbered=numbered))
        return [instances, folder / f"{self.name}_semantic.png", folder / f"{self.name}_overlay.png"]
