"""Open a data set folder, whatever its layout.

Adding a layout is one entry in `LAYOUTS`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panembed.datasets.cityscapes import CityscapesDataset, is_cityscapes
from panembed.datasets.coco_instances import CocoInstancesDataset, is_coco_instances, is_instances_json
from panembed.datasets.coco_panoptic import CocoPanopticDataset, is_coco_panoptic
from panembed.datasets.cvppp import CvpppDataset, is_cvppp
from panembed.datasets.folder import LABEL_FOLDERS, LABELS_FILE, FolderDataset, is_folder
from panembed.datasets.geojson import GeoJsonDataset, is_geojson
from panembed.datasets.imagej_rois import ImagejRoisDataset, is_imagej_rois
from panembed.datasets.labelme import LabelmeDataset, is_labelme
from panembed.datasets.mask_files import MaskFilesDataset, is_mask_files
from panembed.datasets.mask_stacks import MaskStacksDataset, is_mask_stacks
from panembed.datasets.sample import Dataset
from panembed.datasets.yolo_seg import YoloSegDataset, is_yolo_seg
from panembed.errors import InputError, SettingsError, printable
from panembed.io.image_files import images_in


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of laying out a data set in files.

    Attributes:
        recognise: does a folder look like it? Cheap, raises nothing for a strange folder.
        open: makes the data set from the folder and the options.
        looks_like: for people: which files make the layout.
        options: keyword arguments that `open` takes beside the folder.

    >>> LAYOUTS["cvppp"].recognise(Path("/no/such/folder"))
    False
    """

    recognise: Callable[[Path], bool]
    open: Callable[..., Dataset]
    looks_like: str
    options: tuple[str, ...] = ()


def _is_plain_folder(root: Path) -> bool:
    """A folder of label images, unless its `panoptic/` is the PNG folder of a COCO panoptic JSON."""
    labels = [name for name in LABEL_FOLDERS if (root / name).is_dir()]
    of_json = labels == ["panoptic"] and not (root / LABELS_FILE).exists() and is_coco_panoptic(root)
    texts_alone = is_yolo_seg(root) and labels == ["labels"] and not images_in(root / "labels")
    objects = is_mask_files(root) or is_mask_stacks(root) or texts_alone
    return is_folder(root) and not of_json and not objects


LAYOUTS: dict[str, Layout] = {
    "cvppp": Layout(is_cvppp, CvpppDataset, "plantNNN_rgb.png and plantNNN_label.png, here or in sub-folders A1 to A4"),
    "cityscapes": Layout(
        is_cityscapes,
        CityscapesDataset,
        "leftImg8bit/train/CITY/NAME_leftImg8bit.png and gtFine/train/CITY/NAME_gtFine_instanceIds.png",
    ),
    "coco-panoptic": Layout(
        is_coco_panoptic,
        CocoPanopticDataset,
        "a JSON with images, annotations and categories, and a folder of PNGs called like it or panoptic/",
        ("json_file", "segmentations", "images", "encoding"),
    ),
    "coco-panoptic-2channel": Layout(
        lambda root: False,
        lambda root, **options: CocoPanopticDataset(root, encoding="two-channel", **options),
        "a JSON with images and categories, and PNGs whose red is the category and whose green is the object",
        ("json_file", "segmentations", "images"),
    ),
    "coco": Layout(
        # COCO's own annotations/ holds panoptic files, too, which say more.
        lambda root: is_coco_instances(root) and not is_coco_panoptic(root),
        CocoInstancesDataset,
        "a JSON with images, annotations and categories whose annotations have polygons or run-length codes",
        ("json_file", "images"),
    ),
    "masks": Layout(
        is_mask_files,
        MaskFilesDataset,
        "ID/images/ID.png and ID/masks/*.png, a mask for every object; or images/NAME.png and masks/NAME/*.png",
        ("otherwise",),
    ),
    "stacks": Layout(
        is_mask_stacks,
        MaskStacksDataset,
        "images/NAME.png and labels/NAME.tif (or masks/) with a page for every object",
        ("otherwise",),
    ),
    "labelme": Layout(is_labelme, LabelmeDataset, "NAME.jpg and LabelMe's NAME.json beside it"),
    "yolo-seg": Layout(
        is_yolo_seg,
        YoloSegDataset,
        "images/NAME.jpg and labels/NAME.txt with a line for every object, and data.yaml",
        ("otherwise",),
    ),
    "rois": Layout(
        is_imagej_rois,
        ImagejRoisDataset,
        "NAME.tif and ImageJ's NAME_rois.zip beside it, or images/NAME.tif and rois/NAME.zip",
        ("otherwise",),
    ),
    "geojson": Layout(
        is_geojson,
        GeoJsonDataset,
        "NAME.tif and QuPath's NAME.geojson beside it, or images/ and geojson/",
        ("otherwise",),
    ),
    "folder": Layout(
        _is_plain_folder,
        FolderDataset,
        "images/ and labels/ (or panoptic/ or masks/) with files of the same names, perhaps labels.yaml",
        ("label_set", "encoding", "ignore", "single_object", "labels_file", "otherwise"),
    ),
}

_JSON_LAYOUTS = ("coco-panoptic", "coco-panoptic-2channel", "coco")


def open_dataset(root: str | os.PathLike[str], format: str = "auto", **options: Any) -> Dataset:
    """Open a data set folder.

    Args:
        root: the folder; or, of several COCO JSON files in one, the file that is meant.
        format: the name of its layout, one of `LAYOUTS`, or auto: recognise it by its files.
        options: for the layout; see its class (`FolderDataset` and `CocoPanopticDataset` take some).

    Returns:
        The data set; its files are listed and paired, not yet read.

    Raises:
        InputError: the folder is missing, its layout isn't recognised or fits two, or its files don't fit together.
        SettingsError: `format` is unknown, or the layout doesn't take an option.

    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> len(open_dataset(sample_nuclei_path()))
    60
    """
    root = Path(root)
    name = layout_name(root, format)
    layout = LAYOUTS[name]
    if root.suffix == ".json":
        # The photographs lie in the folder of the whole, not in annotations/.
        folder = root.parent.parent if root.parent.name == "annotations" else root.parent
        root, options = folder, {"json_file": root.relative_to(folder)} | options
    for option in options:
        if option not in layout.options:
            near = difflib.get_close_matches(option, layout.options, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            takes = ", ".join(layout.options) or "none"
            raise SettingsError(f"option {option!r} has no effect on data format {name}; it takes {takes}{hint}")
    dataset = layout.open(root, **options)
    for id in dataset.ids:
        if printable(id) != id:
            raise InputError(f"{root}: the name of {printable(id)} is not UTF-8, which tables and JSON need; rename it")
    return dataset


def layout_name(root: str | os.PathLike[str], format: str = "auto") -> str:
    """The layout of a data set folder: `format`, or what its files show where that is auto.

    Raises:
        InputError: the folder is missing, or its layout isn't recognised or fits two.
        SettingsError: `format` is unknown.
    """
    root = Path(root)
    if format != "auto" and format not in LAYOUTS:
        names = ["auto", *LAYOUTS]
        near = difflib.get_close_matches(format, names, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"data format {format!r} is unknown; expected one of {', '.join(names)}{hint}")
    if root.suffix == ".json" and root.is_file():
        if format not in ("auto", *_JSON_LAYOUTS):
            raise SettingsError(
                f"{root}: is a JSON file, but data format {format} is laid out in a folder; give the folder"
            )
        return format if format != "auto" else "coco" if is_instances_json(root) else "coco-panoptic"
    if not root.is_dir():
        found = "is a file" if root.exists() else "no such folder"
        raise InputError(f"{root}: {found}; expected a data set folder; check the path")
    return _recognise(root) if format == "auto" else format


def _recognise(root: Path) -> str:
    names = _fitting(root)
    if len(names) == 1:
        return names[0]
    if names:
        raise InputError(
            f"{root}: could be {' or '.join(names)}; expected files of one layout; say which with --format, or move "
            "the others elsewhere"
        )
    layouts = "; ".join(f"{name}: {layout.looks_like}" for name, layout in LAYOUTS.items())
    inside = [child.name for child in sorted(root.iterdir()) if child.is_dir() and _fitting(child)]
    advice = f"perhaps you mean its sub-folder {inside[0]}" if inside else "arrange the files so, or check the path"
    raise InputError(f"{root}: its layout is not recognised; expected one of ({layouts}); {advice}")


def _fitting(root: Path) -> list[str]:
    return [name for name, layout in LAYOUTS.items() if layout.recognise(root)]
