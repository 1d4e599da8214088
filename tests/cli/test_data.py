"""`panembed data`: look at a data set, and split it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.convert import convert
from panembed.datasets.synthetic import SyntheticDataset


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(tiny_data, tmp_path / "data")


def made(path):
    path.mkdir()
    return path


def test_check(cli, tiny_data, files_of):
    before = files_of(tiny_data)
    outcome = cli("data", "check", tiny_data)
    assert outcome.code == 0, outcome.err
    assert "10 of 64x64" in outcome.out
    assert "background" in outcome.out
    assert "object" in outcome.out
    assert files_of(tiny_data) == before


def test_check_names_what_is_broken(cli, data):
    (data / "images/plant0003.png").write_bytes((data / "images/plant0003.png").read_bytes()[:300])
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(data / "labels/plant0005.png")
    outcome = cli("data", "check", data)
    assert outcome.code == 3
    assert "8 images" in outcome.out
    assert "2 can't be used" in outcome.out
    assert "images/plant0003.png" in outcome.err.replace("\n", "")
    assert "12x10" in outcome.err
    assert "Traceback" not in outcome.err


def test_messages_about_broken_files_keep_lines_and_names(cli, data):
    (data / "images/plant0003.png").write_bytes(b"no image")
    shutil.move(data / "images/plant0004.png", data / "images/[red]4.png")
    shutil.move(data / "labels/plant0004.png", data / "labels/[red]4.png")
    (data / "images/[red]4.png").write_bytes(b"no image")
    outcome = cli("data", "check", data)
    assert len(outcome.err.splitlines()) == 2
    assert f"{data}/images/[red]4.png: is not an image" in outcome.err


@pytest.mark.slow
def test_check_draws_and_suspects(cli, tmp_path):
    convert(SyntheticDataset(12, size=64), "folder", made(tmp_path / "d"))
    labels, images = tmp_path / "d/labels", tmp_path / "d/images"
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(labels / "plant0001.png")
    Image.fromarray(np.ones((64, 64), np.uint16)).save(labels / "plant0002.png")
    dots = np.zeros((64, 64), np.uint16)
    dots[5:60:10, 5:60:10] = 1
    Image.fromarray(dots).save(labels / "plant0003.png")
    (images / "plant0005.png").write_bytes((images / "plant0004.png").read_bytes())
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(images / "plant0006.png")
    outcome = cli("data", "check", tmp_path / "d", "--output", tmp_path / "look")
    assert outcome.code == 0, outcome.err
    for said in (
        "no objects: plant0001",
        "covers most of the image: plant0002",
        "a mask of many?: plant0003",
        "the same picture more than once: plant0004 = plant0005",
        "the image is of one colour: plant0006",
        "image files: 12 PNG RGB",
        "objects per image: 0 to",
    ):
        assert said in outcome.out
    with Image.open(tmp_path / "look/contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > 5 * 300
    again = cli("data", "check", tmp_path / "d", "--output", tmp_path / "look")
    assert again.code == 1
    assert "--overwrite has no effect" in cli("data", "check", tmp_path / "d", "--overwrite").sentence()


@pytest.mark.slow
def test_a_rare_size(cli, tmp_path):
    convert(SyntheticDataset(20, size=32), "folder", made(tmp_path / "d"))
    for folder in ("images", "labels"):
        with Image.open(tmp_path / f"d/{folder}/plant0007.png") as image:
            image.load()
            image.crop((0, 0, 32, 30)).save(tmp_path / f"d/{folder}/plant0007.png")
    assert "of another size than nearly all: plant0007" in cli("data", "check", tmp_path / "d").out


def test_split(cli, data):
    outcome = cli("data", "split", data)
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    split = json.loads((data / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    again = cli("data", "split", data)
    assert again.code == 1
    assert "--overwrite" in again.sentence()
    assert json.loads((data / "split.json").read_text()) == split
    assert cli("data", "split", data, "--overwrite", "--seed", "5").code == 0
    other = json.loads((data / "split.json").read_text())
    assert (other["seed"], other["train"]) != (0, split["train"])


def test_the_split_of_a_model(cli, data, tiny_model, tmp_path):
    outcome = cli("data", "split", data, "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    split = json.loads((data / "split.json").read_text())
    assert split == json.loads((tiny_model / "config.json").read_text())["split"]
    refused = cli("data", "split", data, "--model", tiny_model, "--seed", "3", "--overwrite")
    assert refused.code == 2
    assert "leave out --official, --seed and --fractions" in refused.sentence()
    (data / "images" / f"{split['train'][0]}.png").unlink()
    (data / "labels" / f"{split['train'][0]}.png").unlink()
    outcome = cli("data", "split", data, "--model", tiny_model, "--overwrite")
    assert outcome.code == 0, outcome.err
    assert "1 of the 10 images of the model's split are not there" in outcome.err
    assert json.loads((data / "split.json").read_text()) == split | {"train": split["train"][1:]}
    for path in (data / "images").iterdir():
        path.rename(path.with_stem(f"my-{path.stem}"))
    for path in (data / "labels").iterdir():
        path.rename(path.with_stem(f"my-{path.stem}"))
    refused = cli("data", "split", data, "--model", tiny_model, "--overwrite")
    assert refused.code == 1
    assert "split: none of its 10 images, such as 'plant" in refused.sentence()


def test_split_of_data_named_by_its_json(cli, tiny_data, tmp_path):
    """It goes where it is looked for, beside the data."""
    assert cli("data", "convert", tiny_data, "--to", "coco-panoptic", "-o", tmp_path / "coco").code == 0
    (named,) = (path for path in (tmp_path / "coco").rglob("*.json") if path.name != "split.json")
    for path in (tmp_path / "coco").rglob("split.json"):
        path.unlink()
    outcome = cli("data", "split", named)
    assert outcome.code == 0, outcome.err
    again = cli("data", "split", named)
    assert "there is a split already" in again.sentence()


def test_split_elsewhere_with_other_fractions(cli, tiny_data, tmp_path):
    outcome = cli("data", "split", tiny_data, "-o", tmp_path / "s.json", "--fractions", "0.8", "0.1", "0.1")
    assert outcome.code == 0, outcome.err
    assert len(json.loads((tmp_path / "s.json").read_text())["train"]) == 8
    assert not (tiny_data / "split.json").exists()


def test_wrong_fractions(cli, tiny_data, tmp_path):
    outcome = cli("data", "split", tiny_data, "-o", tmp_path / "s.json", "--fractions", "0.8", "0.1", "0.2")
    assert outcome.code == 2
    assert "their sum is 1.1" in outcome.sentence()


def test_too_few_images(cli, tiny_data, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        shutil.copy(tiny_data / kind / "plant0000.png", tmp_path / kind)
    outcome = cli("data", "split", tmp_path)
    assert outcome.code == 1
    assert "found 1 images" in outcome.sentence()


def test_unwritable_place(cli, tiny_data, tmp_path):
    outcome = cli("data", "split", tiny_data, "-o", tmp_path / "no/such/s.json")
    assert outcome.code == 1
    assert str(tmp_path / "no/such/s.json") in outcome.sentence()


def test_check_says_what_would_be_lost(cli, tmp_path):
    """Overlaps that are lost by reading, and what other layouts have no place for."""
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    box = [2, 2, 12, 2, 12, 12, 2, 12]
    rows = [{"segmentation": [box], "score": 0.5}, {"segmentation": [[v - 1 for v in box]]}]
    rows += [{"segmentation": [[14, 14, 18, 14, 18, 18, 14, 18]], "iscrowd": 1}]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 20}],
        "annotations": [{"image_id": 1, "category_id": 1 + n % 2} | row for n, row in enumerate(rows)],
        "categories": [{"id": 1, "name": "crop"}, {"id": 2, "name": "weed"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(data))
    outcome = cli("data", "check", tmp_path)
    assert outcome.code == 0, outcome.err
    for said in (
        "not kept, pixels in more than one object: 81, in a",
        "not kept, scores of objects: 1, in a",
        "data convert would refuse cvppp, masks, stacks, rois: 2 classes of things",
        "data convert would refuse cvppp, masks, stacks, labelme, yolo-seg, rois, geojson: groups of objects not told",
    ):
        assert said in outcome.out
    for form in ("masks", "geojson"):
        assert cli("data", "convert", tmp_path, "--to", form, "-o", tmp_path.parent / form).code == 1
    assert cli("data", "convert", tmp_path, "--to", "coco", "-o", tmp_path.parent / "coco").code == 0
