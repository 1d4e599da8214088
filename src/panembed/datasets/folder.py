"""Everybody's own data: a folder of images and a folder of label images, joined by file name.

    root/
      images/NAME.png        any of png, jpg, bmp, tif
      labels/NAME.png        numbers, not colours; the folder may also be called panoptic or masks
      labels.yaml            optional: what the numbers mean

`labels.yaml` holds:

    encoding: instances      # every object its own number, 0 background; or class-instance: class * 1000 + number
    ignore: [65535]          # numbers that mean no class
    single_object: true      # with instances: an image may hold one object in many pieces
    classes:
      - {id: 0, name: soil, isthing: false}
      - {id: 1, name: crop, isthing: true, color: [70, 160, 60]}
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from panembed.datasets.sample import FileDataset
from panembed.errors import InputError, SettingsError, shown
from panembed.io.image_files import images_in, sub_folders, unread_pictures
from panembed.io.images import read_raster
from panembed.io.label_images import read_label_image
from panembed.io.yaml_text import load_yaml
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.packing import unpack
from panembed.labels.panoptic_map import PanopticMap

OBJECTS = LabelSet([Category(0, "background", False), Category(1, "object", True, (230, 120, 40))])
"""The classes without labels.yaml: background is stuff, an object is a thing."""

ENCODINGS = ("instances", "class-instance")
LABEL_FOLDERS = ("labels", "panoptic", "masks")
LABELS_FILE = "labels.yaml"

_KEYS = ("encoding", "ignore", "single_object", "classes")
_CLASS_KEYS = ("id", "name", "isthing", "color")
# What is left of white (255) when a mask is saved as 8 bits and as RGB.
_WHITE = (255, 0xFFFFFF)


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """What the numbers in label images mean.

    Attributes:
        label_set: the classes.
        encoding: `instances` (0 background, every object its own number) or `class-instance`
            (`class * 1000 + number`; a number below 1,000 is a class without objects told apart).
        ignore: numbers that mean no class.
        single_object: with `instances`, a lone number in many pieces is one object, not a mistake.

    Raises:
        SettingsError: the classes don't suit the encoding.

    >>> LabelCoding(OBJECTS).encoding
    'instances'
    """

    label_set: LabelSet
    encoding: str = "instances"
    ignore: tuple[int, ...] = ()
    single_object: bool = False

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            hint = _nearest(str(self.encoding), ENCODINGS)
            raise SettingsError(f"encoding is {shown(self.encoding)}; expected {' or '.join(ENCODINGS)}{hint}")
        if self.encoding == "instances":
            if (len(self.label_set.things), len(self.label_set.stuff)) != (1, 1):
                raise SettingsError(
                    f"encoding instances has {len(self.label_set.things)} thing and {len(self.label_set.stuff)} stuff "
                    "classes; expected one of each; for more, use encoding class-instance"
                )
            return
        if self.single_object:
            raise SettingsError("single_object has no effect with encoding class-instance; remove it")
        for category in self.label_set:
            if category.is_thing and category.id == 0:
                raise SettingsError(
                    f"class {category.name!r}: a thing can't have id 0 with encoding class-instance; give it 1 or more"
                )

    def decode(self, numbers: NDArray[np.int32]) -> PanopticMap:
        """Turn the HxW numbers of a label image into a panoptic map.

        Raises:
            InputError: a class is unknown, a number is negative, or the picture is a mask where objects are needed.
        """
        if self.encoding == "class-instance":
            return unpack(numbers, self.label_set, self.ignore)
        ignored = np.isin(numbers, self.ignore) if self.ignore else np.zeros(numbers.shape, dtype=bool)
        instance = np.where(ignored, 0, numbers)
        if instance.min() < 0:
            raise InputError(
                f"holds the number {instance.min()}; expected 0 for background and objects from 1; add it to ignore in "
                f"{LABELS_FILE} if it means no class"
            )
        if not self.single_object:
            _refuse_mask(instance)
        semantic = np.where(instance > 0, self.label_set.things[0], self.label_set.stuff[0])
        return PanopticMap(np.where(ignored, IGNORE, semantic), instance)


def _refuse_mask(instance: NDArray[np.int32]) -> None:
    """Tell the commonest mistake, a black and white mask, from an image that happens to hold one object."""
    top = int(instance.max())
    if top == 0 or ((instance != 0) & (instance != top)).any():
        return
    pieces = ndimage.label(instance, structure=np.ones((3, 3)))[1]
    if top in _WHITE or pieces >= 3:
        found = f"{pieces} pieces" if pieces > 1 else "one piece"
        raise InputError(
            f"is a mask of one number ({top}, in {found}); expected a number of its own for every object; number "
            f"them with skimage.measure.label, or set `single_object: true` in {LABELS_FILE} if it is one object"
        )


def _refuse_one_bit(path: Path, numbers: NDArray[np.int32]) -> None:
    """A file of one bit a pixel can't number objects: several pieces are several objects."""
    if numbers.max(initial=0) != 1 or ndimage.label(numbers, structure=np.ones((3, 3)))[1] < 2:
        return
    if read_raster(path).bits == 1 or read_raster(path).samples.dtype == bool:
        raise InputError(
            "is a mask of one bit a pixel, in pieces; expected a number of its own for every object; number them "
            f"with skimage.measure.label, or set `single_object: true` in {LABELS_FILE} if it is one object"
        )


def _refuse_packed(path: Path, numbers: NDArray[np.int32]) -> None:
    """Without labels.yaml, class * 1000 + number would be read as objects of one class, and silently.

    Numbers that leave few gaps are taken for what they seem, more than a thousand objects, unless the folder is called
    panoptic. Colours are never packed.
    """
    if numbers.max() < 1000 or read_raster(path).samples.ndim == 3:
        return
    values = np.unique(numbers)
    if path.parent.name != "panoptic" and len(values) > int(values[-1]) / 2:
        return
    found = ", ".join(str(value) for value in values[values >= 1000][:3].tolist())
    raise InputError(
        f"{path}: holds numbers such as {found}, which look like class * 1000 + object, but there is no {LABELS_FILE} "
        "that says so; put one into the data folder, or name it with --labels FILE; for example, in one line: "
        "{encoding: class-instance, ignore: [65535], classes: [{id: 0, name: soil, isthing: false}, {id: 1, name: "
        "crop, isthing: true}]}, or with encoding: instances if every number is an object of one class"
    )


class FolderDataset(FileDataset):
    """Images and label images in two folders, joined by file name without suffix, sub-folders alike.

    What the numbers in the label images mean is taken from, in this order: the arguments, `root/labels.yaml`,
    `otherwise`, or else every number but 0 is an object. That numbers are objects is a guess in the last two, and is
    refused where they look like class-instance.

    Args:
        root: the folder with `images/` and one of `labels/`, `panoptic/`, `masks/`.
        label_set: the classes; `encoding`, `ignore` and `single_object` then say the rest.
        encoding: `instances` or `class-instance`, see `LabelCoding`.
        ignore: numbers that mean no class.
        single_object: with `instances`, a lone number in many pieces is one object.
        labels_file: a labels.yaml elsewhere, for data that can't be written to; excludes the other arguments.
        otherwise: what the numbers mean where nothing of all this says so.

    Attributes:
        coding: what the numbers mean.
        not_read: pictures in both folders of kinds that are not read, such as webp, by their paths in the root.

    Raises:
        InputError: a folder is missing, an image has no label, a label has no image, two files share a name, or
            labels.yaml is wrong, or it is missing and the first label image looks like class * 1000 + number.
        SettingsError: arguments that don't go together.

    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> dataset = FolderDataset(sample_nuclei_path())
    >>> len(dataset), dataset.label_set
    (60, LabelSet(0=background, 1=nucleus*; * thing))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        label_set: LabelSet | None = None,
        *,
        encoding: str | None = None,
        ignore: Iterable[int] = (),
        single_object: bool = False,
        labels_file: str | os.PathLike[str] | None = None,
        otherwise: LabelCoding | None = None,
    ) -> None:
        root = Path(root)
        ignored = tuple(int(value) for value in ignore)
        spoken = label_set is not None or encoding is not None or bool(ignored) or single_object
        if labels_file is not None and spoken:
            raise SettingsError(
                "labels_file is given together with label_set, encoding, ignore or single_object; expected one or the "
                "other"
            )
        if label_set is None and encoding == "class-instance":
            raise SettingsError("encoding class-instance needs the classes; give label_set, or a labels.yaml")
        images, labels = _image_folder(root), _label_folder(root)
        if labels_file is None and not spoken and (root / "labels.yml").exists():
            raise InputError(f"{root / 'labels.yml'}: is not read; expected the name {LABELS_FILE}; rename it")
        if spoken:
            self.coding = LabelCoding(label_set or OBJECTS, encoding or "instances", ignored, single_object)
        elif labels_file is not None or (root / LABELS_FILE).exists():
            self.coding = read_label_coding(labels_file or root / LABELS_FILE)
        else:
            self.coding = otherwise or LabelCoding(OBJECTS)
        told = spoken or labels_file is not None or (root / LABELS_FILE).exists()
        # What a preset or a model says is of other data.
        self._guessed = not told and self.coding.encoding == "instances"
        super().__init__(root, self.coding.label_set, _pairs(_by_name(images), _by_name(labels), images, labels))
        self.not_read = tuple(
            path.relative_to(root).as_posix() for folder in (images, labels) for path in _of_other_kinds(folder)
        )
        if self._guessed:
            # Told once here, rather than for every image later; a broken file is told of when it is read.
            first = self.label_path(self.ids[0])
            try:
                numbers = read_label_image(first)
            except InputError:
                return
            _refuse_packed(first, numbers)

    def read_truth(self, id: str) -> PanopticMap:
        """The label image as a panoptic map.

        Raises:
            InputError: it can't be read, holds an unknown class, or is a mask where objects are needed.
        """
        path = self.label_path(id)
        numbers = read_label_image(path)
        if self._guessed:
            _refuse_packed(path, numbers)
        try:
            if self.coding.encoding == "instances" and not self.coding.single_object:
                _refuse_one_bit(path, numbers)
            return self.coding.decode(numbers)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def is_folder(root: Path) -> bool:
    """Does the folder hold `images` and one of `labels`, `panoptic`, `masks`?

    >>> is_folder(Path("/no/such/folder"))
    False
    """
    return (root / "images").is_dir() and any((root / name).is_dir() for name in LABEL_FOLDERS)


def _image_folder(root: Path) -> Path:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with images/ and labels/")
    if not (root / "images").is_dir():
        raise InputError(f"{root}: has no folder images/; expected images/ and labels/ in it")
    return root / "images"


def _label_folder(root: Path) -> Path:
    there = [root / name for name in LABEL_FOLDERS if (root / name).is_dir()]
    if len(there) != 1:
        found = " and ".join(f"{folder.name}/" for folder in there) or "none"
        raise InputError(
            f"{root}: expected exactly one folder of labels ({', '.join(LABEL_FOLDERS)}), found {found}; "
            + ("move the others elsewhere" if there else "add labels/ with a label image for every image")
        )
    return there[0]


def composed(name: str) -> str:
    """A name with one spelling of letters with marks; archives from a Mac have another than most programs.

    >>> composed("u" + chr(0x308)) == "ü"
    True
    """
    return unicodedata.normalize("NFC", name)


def _by_name(folder: Path) -> dict[str, Path]:
    """Images in a folder and its sub-folders, by their path in it without suffix."""
    found: dict[str, Path] = {}
    for place in (folder, *sub_folders(folder)):
        for path in images_in(place):
            name = composed(path.relative_to(folder).with_suffix("").as_posix())
            if name in found:
                raise InputError(
                    f"{path}: has the same name as {found[name].name}; expected one file for each name; rename or "
                    "remove one"
                )
            found[name] = path
    return found


def _of_other_kinds(folder: Path) -> list[Path]:
    """Pictures, by their names, of kinds that are not read."""
    return [path for place in (folder, *sub_folders(folder)) for path in unread_pictures(place)]


def _pairs(
    images: dict[str, Path], labels: dict[str, Path], image_folder: Path, label_folder: Path
) -> dict[str, tuple[Path, Path]]:
    odd = sorted(images.keys() ^ labels.keys())
    for stem in odd:
        here, there = (images, label_folder) if stem in images else (labels, image_folder)
        what = "label" if stem in images else "image"
        more = f" ({len(odd)} files are without a partner)" if len(odd) > 1 else ""
        raise InputError(
            f"{here[stem]}: has no {what}; expected a file {stem}.png (or jpg, bmp, tif) in {there}{more}; add it, or "
            "move this one elsewhere"
        )
    names = {stem: images[stem].relative_to(image_folder).with_suffix("").as_posix() for stem in images}
    return {names[stem]: (images[stem], labels[stem]) for stem in images}


def read_label_coding(path: str | os.PathLike[str]) -> LabelCoding:
    """Read a labels.yaml.

    Args:
        path: the file.

    Raises:
        InputError: it is missing, isn't YAML, or has an unknown key, a wrong type, or classes that don't suit the
            encoding.

    >>> from panembed.datasets.samples import sample_nuclei_path
    >>> read_label_coding(sample_nuclei_path() / "labels.yaml").encoding
    'instances'
    """
    path = Path(path)
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a description of the labels; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except ValueError as error:
        cause = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: is not valid YAML ({cause}); mend it") from error
    return label_coding(data, str(path))


def label_coding(data: Any, where: str) -> LabelCoding:
    """Check what a labels.yaml holds.

    Args:
        data: its content as plain data.
        where: named in errors.

    Raises:
        InputError: an unknown key, a wrong type, or classes that don't suit the encoding.

    >>> classes = [{"id": 0, "name": "soil", "isthing": False}, {"id": 1, "name": "crop", "isthing": True}]
    >>> label_coding({"classes": classes}, "labels").label_set
    LabelSet(0=soil, 1=crop*; * thing)
    """
    if not isinstance(data, dict):
        raise InputError(f"{where}: holds {_kind(data)}; expected the keys {', '.join(_KEYS)}")
    _known_keys(where, "", data, _KEYS)
    if "classes" not in data:
        raise InputError(f"{where}: has no key classes; expected a list of classes with id, name and isthing")
    ignore = data.get("ignore", [])
    if not isinstance(ignore, list) or not all(_is_int(value) for value in ignore):
        raise InputError(f"{where}: ignore is {shown(ignore)}; expected a list of whole numbers, such as [65535]")
    single_object = data.get("single_object", False)
    if not isinstance(single_object, bool):
        raise InputError(f"{where}: single_object is {shown(single_object)}; expected true or false")
    encoding = data.get("encoding", "instances")
    try:
        return LabelCoding(_label_set(where, data["classes"]), encoding, tuple(ignore), single_object)
    except SettingsError as error:
        raise InputError(f"{where}: {error}") from error


def _label_set(where: str, rows: Any) -> LabelSet:
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{where}: classes is {_kind(rows)}; expected a list of classes with id, name and isthing")
    for number, row in enumerate(rows):
        row_name = f"classes[{number}]"
        if not isinstance(row, dict):
            raise InputError(f"{where}: {row_name} is {_kind(row)}; expected id, name, isthing and perhaps color")
        _known_keys(where, f"{row_name}.", row, _CLASS_KEYS)
        for key in ("id", "name", "isthing"):
            if key not in row:
                raise InputError(f"{where}: {row_name} has no {key}; expected id, name, isthing and perhaps color")
        if not _is_int(row["id"]) or not 0 <= row["id"] <= 65534:
            raise InputError(f"{where}: {row_name}.id is {shown(row['id'])}; expected a whole number 0..65534")
        if not isinstance(row["name"], str) or not row["name"].strip():
            raise InputError(f"{where}: {row_name}.name is {shown(row['name'])}; expected a text; put it in quotes")
        if row["isthing"] not in (False, True):
            raise InputError(f"{where}: {row_name}.isthing is {shown(row['isthing'])}; expected true or false")
        color = row.get("color", [0, 0, 0])
        if not (isinstance(color, list) and len(color) == 3 and all(_is_int(c) and 0 <= c <= 255 for c in color)):
            raise InputError(
                f"{where}: {row_name}.color is {shown(color)}; expected three whole numbers 0..255, [r, g, b]"
            )
    return LabelSet.from_list(rows)


def _known_keys(where: str, prefix: str, data: dict[Any, Any], known: tuple[str, ...]) -> None:
    for key in data:
        if key not in known:
            hint = _nearest(str(key), known)
            raise InputError(f"{where}: unknown key {prefix}{key}; expected {', '.join(known)}{hint}")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return (
        "nothing"
        if value is None
        else f"{value!r:.60}"
        if isinstance(value, (str, int, float))
        else type(value).__name__
    )
