"""Signal in one colour and files of several channels, by the command line."""

import csv
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from panembed.datasets.samples import sample_nuclei_path
from panembed.io.images import write_png

pytestmark = pytest.mark.slow


def objects(folder):
    with (folder / "summary.csv").open() as file:
        return {row["file"].partition(".")[0]: (int(row["objects"]), row["notes"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def grey():
    paths = sorted((sample_nuclei_path() / "images").iterdir())[:2]
    return {path.stem: np.asarray(Image.open(path).convert("L")) for path in paths}


def predict(cli, folder, *more):
    return cli("predict", "--model", "nuclei", folder, "--output", f"{folder}_out", "--device", "cpu", *more)


def test_green_is_grey_and_said_so(cli, tmp_path, grey):
    for place, planes in {"grey": (1, 1, 1), "green": (0, 1, 0)}.items():
        (tmp_path / place).mkdir()
        for name, picture in grey.items():
            write_png(tmp_path / place / f"{name}.png", picture[..., None] * np.array(planes, np.uint8))
    assert "note: " not in predict(cli, tmp_path / "grey").err
    assert "2 of 2 images show a single signal in colour (green" in predict(cli, tmp_path / "green").err
    expected, found = (objects(tmp_path / f"{place}_out") for place in ("grey", "green"))
    assert {name: count for name, (count, _) in found.items()} == {name: count for name, (count, _) in expected.items()}
    assert all(notes == "green seen as grey" for _, notes in found.values())


def test_evaluate_says_what_it_saw_as_grey(cli, tmp_path):
    data = shutil.copytree(sample_nuclei_path(), tmp_path / "data")
    options = ("--model", "nuclei", "--data", data, "--split", "all", "--device", "cpu")
    assert "seen as grey" not in cli("evaluate", *options, "--output", tmp_path / "as_it_is", "--pictures", "0").err
    for path in (data / "images").iterdir():
        grey = np.asarray(Image.open(path).convert("L"))
        write_png(path.with_suffix(".png"), grey[..., None] * np.array((0, 1, 0), np.uint8))
    told = cli("evaluate", *options, "--output", tmp_path / "green", "--pictures", "0").err
    assert told.count("a single signal in colour (green seen as grey)") == 1
    said = cli("evaluate", *options, "--output", tmp_path / "rgb", "--pictures", "0", "--set", "input.channel=rgb").err
    assert "seen as grey" not in said


def test_one_of_two_channels(cli, tmp_path, grey):
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    for name, picture in grey.items():
        deep = picture.astype(np.uint16) * 16
        tifffile.imwrite(tmp_path / "one" / f"{name}.tif", deep)
        both = np.stack([deep[::-1] // 2, deep])
        tifffile.imwrite(tmp_path / "two" / f"{name}.tif", both, imagej=True, metadata={"axes": "CYX"})
    refused = predict(cli, tmp_path / "two")
    assert refused.code == 3
    assert "choose one with --channel 1 to 2" in refused.err
    assert predict(cli, tmp_path / "two", "--channel", "2", "--overwrite").code == 0
    predict(cli, tmp_path / "one")
    assert objects(tmp_path / "two_out") == objects(tmp_path / "one_out")


@pytest.mark.parametrize("channel", ["purple", "0", "-1", "1.5"])
def test_channels_that_are_none(cli, tmp_path, channel, grey):
    write_png(tmp_path / "a.png", next(iter(grey.values())))
    outcome = cli(
        "predict", "--model", "nuclei", tmp_path / "a.png", "--output", tmp_path / "o", f"--channel={channel}"
    )
    assert outcome.code == 2
    assert "--channel" in outcome.sentence()
