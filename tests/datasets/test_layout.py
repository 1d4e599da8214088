import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.convert import convert
from panembed.datasets.folder import FolderDataset
from panembed.datasets.layout import LAYOUTS, layout_name, open_dataset
from panembed.datasets.synthetic import SyntheticDataset, write_folder
from panembed.errors import InputError, SettingsError


@pytest.fixture
def plants(tmp_path):
    write_folder(SyntheticDataset(1, size=16), tmp_path / "plants")
    return tmp_path / "plants"


@pytest.fixture
def challenge(tmp_path):
    folder = tmp_path / "challenge" / "A3"
    folder.mkdir(parents=True)
    for kind in ("rgb", "label"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / f"plant01_{kind}.png")
    return tmp_path / "challenge"


def test_named_layout_overrules(plants, challenge):
    assert type(open_dataset(plants, "folder")) is FolderDataset
    with pytest.raises(InputError, match="holds no CVPPP images"):
        open_dataset(plants, "cvppp")
    with pytest.raises(InputError, match="has no folder images/"):
        open_dataset(challenge, "folder")


def test_two_layouts_in_one_folder(plants):
    for kind in ("rgb", "label"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(plants / f"plant01_{kind}.png")
    with pytest.raises(InputError, match=r"could be cvppp or folder.*--format"):
        open_dataset(plants)
    assert open_dataset(plants, "folder").ids == ["plant0000"]
    assert open_dataset(plants, "cvppp").ids == ["plant01"]


def test_nothing_recognised_lists_every_layout(tmp_path, plants):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not recognised") as caught:
        open_dataset(tmp_path / "empty")
    for name, layout in LAYOUTS.items():
        assert f"{name}: {layout.looks_like}" in str(caught.value)
    with pytest.raises(InputError, match="perhaps you mean its sub-folder plants"):
        open_dataset(tmp_path)


def test_unknown_format_names_the_nearest(plants):
    with pytest.raises(SettingsError, match=r"'cvpp' is unknown.*did you mean 'cvppp'"):
        open_dataset(plants, "cvpp")


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        open_dataset(tmp_path / "file")


def test_options_reach_the_layout_or_are_refused(plants, challenge):
    assert open_dataset(plants, single_object=True).coding.single_object
    with pytest.raises(SettingsError, match=r"'singleobject' has no effect.*did you mean 'single_object'"):
        open_dataset(plants, singleobject=True)
    with pytest.raises(SettingsError, match="'ignore' has no effect on data format cvppp; it takes none"):
        open_dataset(challenge, ignore=[1])


def test_one_of_several_coco_files(tmp_path, plants):
    for part in ("train", "val"):
        convert(open_dataset(plants), "coco-panoptic", tmp_path / part)
    both = tmp_path / "both"
    (both / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        (tmp_path / part / "panoptic.json").rename(both / "annotations" / f"panoptic_{part}.json")
        (tmp_path / part / "panoptic").rename(both / "annotations" / f"panoptic_{part}")
    (tmp_path / "val" / "images").rename(both / "val")
    with pytest.raises(InputError, match="several JSON files fit"):
        open_dataset(both)
    dataset = open_dataset(both / "annotations" / "panoptic_val.json")
    assert dataset.root == both
    assert dataset.load("plant0000").truth == open_dataset(plants).load("plant0000").truth
    with pytest.raises(SettingsError, match="laid out in a folder"):
        open_dataset(both / "annotations" / "panoptic_val.json", "cvppp")


def test_two_channel_files(tmp_path, plants):
    truth = open_dataset(plants).read_truth("plant0000")
    convert(open_dataset(plants), "coco-panoptic", tmp_path / "coco")
    png = tmp_path / "coco" / "panoptic" / "plant0000.png"
    object_number = np.where(truth.instance > 0, truth.instance - 1, 0)
    red = truth.semantic + 1  # category 0 is void there
    Image.fromarray(np.dstack([red, object_number, 0 * red]).astype(np.uint8)).save(png)
    listing = json.loads((tmp_path / "coco" / "panoptic.json").read_text())
    del listing["annotations"]
    for category in listing["categories"]:
        category["id"] += 1
    (tmp_path / "coco" / "panoptic.json").write_text(json.dumps(listing))
    found = open_dataset(tmp_path / "coco" / "panoptic.json", "coco-panoptic-2channel").read_truth("plant0000")
    assert np.array_equal(found.semantic, truth.semantic)
    assert found.num_instances == truth.num_instances


def test_a_name_that_no_table_can_hold(plants, tmp_path):
    shutil.copytree(plants, tmp_path / "data")
    first = sorted((tmp_path / "data/images").iterdir())[0].name
    latin = os.fsdecode(b"Bl\xe4tter.png")
    try:
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder / first).rename(tmp_path / "data" / folder / latin)
    except OSError:
        pytest.skip("this disk has UTF-8 names only")
    with pytest.raises(InputError, match=r"the name of Bl.udce4tter is not UTF-8.*rename it"):
        open_dataset(tmp_path / "data")


def test_a_text_or_the_drawings_beside_do_not_make_it_another_layout(plants):
    (plants / "labels/README.txt").write_text("made by hand")
    (plants / "images/plant0000.json").write_text('{"shapes": [], "imagePath": "plant0000.png"}')
    assert layout_name(plants) == "folder"
    (plants / "labels/plant0000.txt").write_text("")
    with pytest.raises(InputError, match="could be yolo-seg or folder"):
        layout_name(plants)
