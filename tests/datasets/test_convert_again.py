"""A data set written where something lies already: never two in one."""

import numpy as np
import pytest

from panembed.datasets.convert import FORMS, convert
from panembed.datasets.layout import open_dataset
from panembed.datasets.sample import Sample
from panembed.datasets.splits import Split, make_split
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import OutputError, SettingsError
from panembed.io.cityscapes import CITYSCAPES
from panembed.io.images import write_png
from panembed.labels.panoptic_map import PanopticMap

pytestmark = pytest.mark.slow  # writes many files


class City(SyntheticDataset):
    """Streets of road and two cars, under names such as train/ulm/3."""

    def __init__(self, count):
        super().__init__(1)
        self.label_set = CITYSCAPES
        self.ids = [f"train/ulm/{n}" for n in range(count)]

    def load(self, id):
        semantic = np.kron([[0, 13], [13, 0]], np.ones((8, 8), int))
        instance = np.kron([[0, 1], [2, 0]], np.ones((8, 8), int))
        return Sample(np.full((16, 16, 3), 90, np.uint8), PanopticMap(semantic, instance), id)

    def image_path(self, id):
        return self.root / f"{id}.png"


def made(form, count):
    return City(count) if form == "cityscapes" else SyntheticDataset(count, size=32)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("form", FORMS)
def test_the_same_again_and_more(out, files_of, form):
    convert(made(form, 3), form, out)
    before = files_of(out)
    (out / "notes.txt").write_text("mine")
    convert(made(form, 3), form, out)
    assert files_of(out) == before | {"notes.txt": b"mine"}
    convert(made(form, 5), form, out)
    assert len(open_dataset(out)) == 5


@pytest.mark.parametrize("form", FORMS)
def test_not_among_other_images(out, files_of, form):
    convert(made(form, 5), form, out)
    before = files_of(out)
    with pytest.raises(OutputError, match="would lie among the images of this data set"):
        convert(made(form, 3), form, out)
    assert files_of(out) == before


def test_not_another_layout_of_the_same_images(out, files_of):
    convert(made("folder", 3), "folder", out)
    before = files_of(out)
    with pytest.raises(OutputError, match="would lie among"):
        convert(made("cvppp", 3), "cvppp", out)
    assert files_of(out) == before


def test_a_split_that_is_there_stays_if_it_fits(out, files_of):
    dataset = made("folder", 5)
    make_split(dataset.ids).write(out / "split.json")
    convert(dataset, "folder", out)
    assert Split.read(out / "split.json") == make_split(dataset.ids)
    before = files_of(out)
    make_split(["x", "y", "z"]).write(out / "split.json")
    with pytest.raises(OutputError, match=r"split\.json: is of other images"):
        convert(dataset, "folder", out)
    assert files_of(out).keys() == before.keys()


def test_names_with_dots(out):
    dataset = made("folder", 2)
    renamed = {f"plant.{n}.v2": id for n, id in enumerate(dataset.ids)}

    class Dotted(SyntheticDataset):
        def __init__(self):
            super().__init__(2, size=32)
            self.ids = list(renamed)

        def load(self, id):
            return dataset.load(renamed[id])

        def image_path(self, id):
            return self.root / f"{id}.png"

    for _ in range(2):
        convert(Dotted(), "folder", out)
    assert open_dataset(out).ids == list(renamed)


def test_cityscapes_files_for_scoring_need_no_photographs(out):
    convert(City(2), "cityscapes", out, images="none")
    assert sorted(path.name for path in out.iterdir()) == ["gtFine"]
    assert len(list(out.rglob("*_instanceIds.png"))) == 2
    with pytest.raises(SettingsError, match="needs the photographs; expected images copy or link, or coco-panoptic or"):
        convert(City(2), "packed", out, images="none")


def test_a_contact_sheet_is_no_image(out):
    write_png(out / "contact_sheet.png", np.zeros((4, 4, 3), np.uint8))
    convert(made("folder", 2), "folder", out)
    assert len(open_dataset(out)) == 2
