"""Write a data set in another layout, so that other programs read it, and so does `open_dataset`.

Nothing is lost without a word: what a layout can't say is an error that names the image. Numbers of objects may change;
which pixels are one segment, of which class, and whether it is a crowd, do not. A split goes along. Some layouts have
no place for all names of classes: CVPPP's are background and leaf, those that draw each object by itself have a
background and, of `masks`, `stacks` and `rois`, objects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from panembed.datasets.cityscapes import SPLITS
from panembed.datasets.cvppp import SUBSETS, CvpppDataset
from panembed.datasets.folder import LABELS_FILE, FolderDataset, LabelCoding
from panembed.datasets.object_forms import OBJECT_FORMS, ObjectForm
from panembed.datasets.sample import Dataset, FileDataset
from panembed.datasets.splits import PARTS, SPLIT_FILE, HasOfficialSplit, Split
from panembed.errors import InputError, OutputError, SettingsError
from panembed.io.atomic import atomic_path, write_text
from panembed.io.cityscapes import encode_instance_ids
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.io.contact_sheet import CONTACT_SHEET_FILE
from panembed.io.image_files import IMAGE_SUFFIXES
from panembed.io.images import write_png
from panembed.io.label_images import write_instances
from panembed.io.legend import LEGEND_FILE
from panembed.io.packed import (
    PACKED_VOID,
    WIDE_VOID,
    encode_objects,
    encode_packed,
    write_leaf_labels,
)
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap

IMAGE_WAYS = ("copy", "link", "none")
"""What becomes of the photographs."""

WITHOUT_IMAGES = ("coco-panoptic", "cityscapes", "coco")
"""Layouts that scoring programs read without photographs."""


class _Writer(Protocol):
    """One layout: where the photograph goes, and how the truth is written."""

    png_only: bool

    def image_target(self, id: str) -> Path:
        """Path of the photograph, without suffix."""
        ...

    def label_target(self, id: str) -> Path:
        """Path of the truth, without suffix."""
        ...

    def new_id(self, id: str) -> str:
        """What the image is called in the new layout."""
        ...

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        """Write one truth; `image` is where its photograph will be."""
        ...

    def close(self) -> None:
        """Write what belongs to all."""
        ...


class _CocoPanoptic:
    png_only = False

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root = root
        self._writer = CocoPanopticWriter(root, dataset.label_set)
        ids = getattr(dataset, "image_ids", {})
        # Whole numbers stay; hotcoco and the COCO tools want nothing else.
        self._ids: dict[str, int] = ids if ids and all(isinstance(value, int) for value in ids.values()) else {}

    def new_id(self, id: str) -> str:
        return id

    def image_target(self, id: str) -> Path:
        return self.root / "images" / id

    def label_target(self, id: str) -> Path:
        return self.root / "panoptic" / id

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        self._writer.add(f"{id}{image.suffix}", truth, self._ids.get(id))

    def close(self) -> None:
        self._writer.close()


class _Folder:
    """Images and label images of the same name: object numbers where they can say all, or else Eq. 2.1."""

    png_only = False
    folder = "labels"

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.label_set = root, dataset.label_set
        plain = len(self.label_set.things) == len(self.label_set.stuff) == 1
        self.encoding = "instances" if plain and not _has_crowds(dataset) else "class-instance"
        wide = self.encoding == "class-instance" and _needs_wide(self.label_set)
        self.void = WIDE_VOID if wide else PACKED_VOID

    def new_id(self, id: str) -> str:
        return _flat(id)

    def image_target(self, id: str) -> Path:
        return self.root / "images" / self.new_id(id)

    def label_target(self, id: str) -> Path:
        return self.root / self.folder / self.new_id(id)

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        path = _with_suffix(self.label_target(id), ".png")
        encode = encode_objects if self.encoding == "instances" else encode_packed
        numbers = encode(truth, self.label_set, void=self.void)
        path.parent.mkdir(exist_ok=True)
        write_instances(path, numbers)

    def close(self) -> None:
        # A single object in pieces is one object here: the numbers were written by us.
        single = self.encoding == "instances"
        coding = LabelCoding(self.label_set, self.encoding, (self.void,), single_object=single)
        write_label_coding(self.root / LABELS_FILE, coding)


class _Packed(_Folder):
    """Eq. 2.1 in 16 bits, whatever the classes."""

    folder = "panoptic"

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.label_set = root, dataset.label_set
        self.encoding, self.void = "class-instance", PACKED_VOID


class _Cvppp:
    png_only = True

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.label_set = root, dataset.label_set
        # All in sub-folders A1 to A4, or all in one folder: a mixture would be read in part.
        parts = [id.split("/") for id in dataset.ids]
        self._in_subsets = all(len(part) == 2 and part[0] in SUBSETS for part in parts)

    def new_id(self, id: str) -> str:
        return id if self._in_subsets else _flat(id)

    def image_target(self, id: str) -> Path:
        return self.root / f"{self.new_id(id)}_rgb"

    def label_target(self, id: str) -> Path:
        return self.root / f"{self.new_id(id)}_label"

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        path = _with_suffix(self.label_target(id), ".png")
        path.parent.mkdir(exist_ok=True)
        write_leaf_labels(path, truth, self.label_set)

    def close(self) -> None:
        pass


class _Cityscapes:
    png_only = True

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.label_set = root, dataset.label_set

    def new_id(self, id: str) -> str:
        parts = id.split("/")
        return id if len(parts) == 3 and parts[0] in SPLITS else f"train/converted/{_flat(id)}"

    def image_target(self, id: str) -> Path:
        return self.root / "leftImg8bit" / f"{self.new_id(id)}_leftImg8bit"

    def label_target(self, id: str) -> Path:
        return self.root / "gtFine" / f"{self.new_id(id)}_gtFine_instanceIds"

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        path = _with_suffix(self.label_target(id), ".png")
        numbers = encode_instance_ids(truth, self.label_set)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, numbers)
        labels = np.where(numbers >= 1000, numbers // 1000, numbers).astype(np.uint8)
        write_png(path.with_name(path.name.replace("_instanceIds", "_labelIds")), labels)

    def close(self) -> None:
        pass


FORMS: dict[str, Callable[[Path, Dataset], _Writer]] = {
    "coco-panoptic": _CocoPanoptic,
    "folder": _Folder,
    "cvppp": _Cvppp,
    "cityscapes": _Cityscapes,
    "packed": _Packed,
    **OBJECT_FORMS,
}
"""Layouts that can be written. `packed` is a folder of 16-bit images, class * 1000 + object (Zachow 2022, Eq. 2.1)."""


def convert(
    dataset: Dataset,
    form: str,
    output: str | os.PathLike[str],
    *,
    images: str = "copy",
    each: Callable[[str], object] | None = None,
) -> None:
    """Write a data set in another layout.

    Ids stay where the layout has folders; otherwise `A1/plant001` becomes `A1_plant001`. Cityscapes' layout puts images
    whose ids aren't SPLIT/CITY/NAME into `train/converted`. The data set's split.json is written with the new ids;
    where it has none, its official split is, if it has one and the new layout none.

    Args:
        dataset: with truth.
        form: one of `FORMS`.
        output: a folder that exists; files of the same names are replaced.
        images: `copy` the photographs, `link` to them (symbolic links, no space), or `none` (COCO panoptic
            and Cityscapes only: files for scoring programs).
            A photograph that isn't PNG is written anew as PNG where the layout asks for PNG.
        each: called with every id that is done.

    Raises:
        SettingsError: `form` or `images` is unknown, or the layout can't be without photographs.
        InputError: an image or its truth can't be read.
        OutputError: the layout can't say what a truth says, two ids would get one name, `output` is the data set's own
            folder or holds pictures of other images, or it can't be written. Images that were written before that stay.

    >>> import tempfile
    >>> from panembed.datasets.layout import open_dataset
    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     convert(SyntheticDataset(2, size=32), "coco-panoptic", folder)
    ...     open_dataset(folder)  # doctest: +ELLIPSIS
    CocoPanopticDataset('...', 2 images)
    """
    check_conversion(dataset, form, output, images)
    output = Path(output)
    split = _split_of(dataset, form)
    writer = FORMS[form](output, dataset)
    _refuse_own_folders(output, writer, dataset)
    _refuse_strangers(output, writer, dataset.ids)
    if split is None and (output / SPLIT_FILE).is_file():
        try:
            Split.read(output / SPLIT_FILE).check([writer.new_id(id) for id in dataset.ids])
        except InputError as error:
            raise OutputError(f"{output / SPLIT_FILE}: is of other images ({error}); move it elsewhere") from error
    taken: dict[Path, str] = {}
    for id in dataset.ids:
        target = writer.image_target(id)
        if target in taken:
            raise OutputError(f"{id}: would get the same name as {taken[target]}, {target.name}; rename one of them")
        taken[target] = id
        truth = dataset.read_truth(id)
        try:
            image, as_it_is = _photograph(dataset, id, target, writer.png_only)
            # The truth first: most that a layout can't say shows before anything is written.
            writer.add(id, truth, image)
            if images != "none":
                _place(dataset, id, image, as_it_is, images == "link")
        except OSError as error:
            raise OutputError(f"{output}: can't be written ({error.strerror}); choose another place") from error
        except OutputError as error:
            raise OutputError(f"{id}: {error}") from error
        if each is not None:
            each(id)
    writer.close()
    if split is not None:
        train, val, test = (tuple(map(writer.new_id, split.select(part))) for part in PARTS)
        dataclasses.replace(split, train=train, val=val, test=test).write(output / SPLIT_FILE)


def _refuse_own_folders(output: Path, writer: _Writer, dataset: Dataset) -> None:
    """Refuse an output with links to where the data set's own files are: they would be replaced."""
    own = {dataset.image_path(id).parent for id in dataset.ids}
    if isinstance(dataset, FileDataset):
        own |= {dataset.label_path(id).parent for id in dataset.ids}
    real = {folder.resolve() for folder in own}
    targets = {path.parent for id in dataset.ids for path in (writer.image_target(id), writer.label_target(id))}
    for folder in sorted(targets):
        if folder.resolve() in real:
            raise OutputError(f"{output}: {folder} leads to the data set's own files; choose another folder")


def _refuse_strangers(output: Path, writer: _Writer, ids: Sequence[str]) -> None:
    """Refuse pictures of other images among those that will be written: both would be read as one data set."""
    ours = {target for id in ids for target in (writer.image_target(id), writer.label_target(id))}
    # Cityscapes has a second picture of every truth.
    ours |= {path.with_name(path.name.replace("_instanceIds", "_labelIds")) for path in ours}
    for path in sorted(output.rglob("*")):
        picture = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        if isinstance(writer, ObjectForm) and writer.owns(path):
            continue
        if picture and path.with_suffix("") not in ours and path.name not in (CONTACT_SHEET_FILE, LEGEND_FILE):
            raise OutputError(
                f"{path}: would lie among the images of this data set, and be taken for one of them; choose another "
                "folder, or move what is in this one elsewhere"
            )


def _split_of(dataset: Dataset, form: str) -> Split | None:
    """The data set's split.json, or the official split that its layout says and the new one doesn't."""
    path = dataset.root / SPLIT_FILE
    if path.is_file():
        split = Split.read(path)
        split.check(dataset.ids)
        return split
    if isinstance(dataset, HasOfficialSplit) and form != "cityscapes":
        # Where official images are missing there may be no such split to keep.
        with contextlib.suppress(InputError):
            split = dataset.official_split()
            return split if split.test else None
    return None


def check_conversion(dataset: Dataset, form: str, output: str | os.PathLike[str], images: str = "copy") -> None:
    """Refuse what `convert` would refuse before it reads anything; see there for the arguments and errors.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> check_conversion(SyntheticDataset(1), "coco-panoptik", "out")
    Traceback (most recent call last):
    panembed.errors.SettingsError: layout 'coco-panoptik' is unknown; expected one of coco-panoptic, ...
    """
    if form not in FORMS:
        near = difflib.get_close_matches(form, FORMS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"layout {form!r} is unknown; expected one of {', '.join(FORMS)}{hint}")
    if images not in IMAGE_WAYS:
        raise SettingsError(f"images is {images!r}; expected {', '.join(IMAGE_WAYS)}")
    if images == "none" and form not in WITHOUT_IMAGES:
        raise SettingsError(
            f"layout {form} needs the photographs; expected images copy or link, or {' or '.join(WITHOUT_IMAGES)}"
        )
    if Path(output).resolve() == dataset.root.resolve():
        raise OutputError(f"{output}: is the data set itself; choose another folder")


def write_label_coding(path: str | os.PathLike[str], coding: LabelCoding) -> None:
    """Write a labels.yaml, that `panembed.datasets.folder.read_label_coding` reads.

    Raises:
        OutputError: the place can't be written.

    >>> import tempfile
    >>> from panembed.datasets.folder import OBJECTS, read_label_coding
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_coding(Path(folder) / "labels.yaml", LabelCoding(OBJECTS, ignore=(65535,)))
    ...     read_label_coding(Path(folder) / "labels.yaml") == LabelCoding(OBJECTS, ignore=(65535,))
    True
    """
    data: dict[str, Any] = {"encoding": coding.encoding, "ignore": list(coding.ignore)}
    if coding.single_object:
        data["single_object"] = True
    data["classes"] = [
        {"id": c.id, "name": c.name, "isthing": c.is_thing, "color": list(c.color)} for c in coding.label_set
    ]
    write_text(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120))


def _photograph(dataset: Dataset, id: str, target: Path, png_only: bool) -> tuple[Path, bool]:
    """Where a photograph goes, and whether its file can stay as it is."""
    source = dataset.image_path(id)
    usable = os.path.isfile(source) and source.suffix.lower() in (IMAGE_SUFFIXES if not png_only else (".png",))
    if usable and png_only:
        with open(source, "rb") as file:
            usable = file.read(8) == b"\x89PNG\r\n\x1a\n"
    return _with_suffix(target, source.suffix if usable and not png_only else ".png"), usable


def _with_suffix(path: Path, suffix: str) -> Path:
    """The path with a suffix more; unlike Path.with_suffix it leaves names that hold dots whole."""
    return path.with_name(path.name + suffix)


def _place(dataset: Dataset, id: str, path: Path, as_it_is: bool, link: bool) -> None:
    """Bring a photograph to its new place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = dataset.image_path(id)
    if not as_it_is:
        write_png(path, dataset.read_image(id))
    elif link:
        temporary = path.with_name(f".{secrets.token_hex(4)}.link")
        temporary.symlink_to(source.resolve())
        os.replace(temporary, path)
    else:
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)


def _flat(name: str) -> str:
    return name.replace("/", "_")


def _needs_wide(label_set: LabelSet) -> bool:
    """Could an object's number reach 65,535?"""
    return any(category.is_thing and category.id * 1000 + 999 >= PACKED_VOID for category in label_set)


def _has_crowds(dataset: Dataset) -> bool:
    """Is there a crowd in any truth? Only layouts that can say so are read through."""
    plain_numbers = isinstance(dataset, FolderDataset) and dataset.coding.encoding == "instances"
    if plain_numbers or isinstance(dataset, CvpppDataset):
        return False
    for id in dataset.ids:
        try:
            if dataset.read_truth(id).crowd:
                return True
        except InputError:
            # It is told of when it is converted.
            return False
    return False
