"""`predict` killed at several moments goes on with --resume, to the byte; `measure` takes what was edited since."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from panembed.inference.model_folder import shipped_folder
from panembed.io.lock import folder_lock

SIDE = 96

KILLED_AT = """
import os, signal, sys
import panembed.io.atomic as atomic
replace, seen = os.replace, 0

def dying(source, target):
    global seen
    if str(target).endswith({name!r}):
        seen += 1
        if seen == {count}:
            if {after}:
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = atomic.os.replace = dying
from panembed.cli.app import main
main()
"""
"""The command, killed when it gives a file its name for the so manieth time."""

MOMENTS = [("prediction.jsonl", 1, False), ("_overlay.png", 3, False), ("summary.csv", 1, True)]
"""The first and the last file, and one in between; each takes seconds, as a process of its own."""


def command(*arguments):
    return ["predict", "--device", "cpu", *map(str, arguments)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Parts of images of nuclei, small ones, and a file that is no image."""
    from panembed.datasets.samples import sample_nuclei

    folder, dataset = tmp_path_factory.mktemp("photos") / "images", sample_nuclei()
    folder.mkdir()
    for number, id in enumerate(dataset.ids[:6]):
        Image.fromarray(dataset.read_image(id)[:SIDE, :SIDE]).save(folder / f"plant_{number:04}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


OPTIONS = ("--pixel-size", "0.5", "--write", "coco,rois", "--set", "grouping.min_area=20")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, images):
    """What a run that nobody killed writes."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    program = "from panembed.cli.app import main; main()"
    arguments = command("--model", "nuclei", images, "--output", folder, *OPTIONS)
    assert subprocess.run([sys.executable, "-c", program, *arguments], check=False).returncode == 3
    return folder


def without_order_of_lines(files):
    """As they are, but for the record, whose lines are in the order in which images were done."""
    return {name: sorted(data.splitlines()) if name.endswith(".jsonl") else data for name, data in files.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count", "after"), MOMENTS)
def test_killed_and_gone_on(cli, tmp_path, images, whole, files_of, name, count, after):
    folder = tmp_path / "results"
    program = textwrap.dedent(KILLED_AT).format(name=name, count=count, after=after)
    arguments = command("--model", "nuclei", images, "--output", folder, *OPTIONS)
    killed = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    outcome = cli(*arguments, "--resume")
    assert outcome.code == 3, outcome.err
    assert without_order_of_lines(files_of(folder)) == without_order_of_lines(files_of(whole))


@pytest.fixture
def results(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "results")


def test_what_is_whole_is_not_predicted_again(cli, monkeypatch, images, results, files_of):
    from panembed.inference.predictor import PanopticModel

    before = files_of(results)
    monkeypatch.setattr(PanopticModel, "predict_files", lambda self, paths: iter([(p, _broken(p)) for p in paths]))
    outcome = cli(*command("--model", "nuclei", images, "--output", results, *OPTIONS, "--resume"))
    assert outcome.code == 3, outcome.err
    assert {k: v for k, v in files_of(results).items() if k != "failed.csv"} == {
        k: v for k, v in before.items() if k != "failed.csv"
    }


def _broken(path):
    from panembed.errors import InputError

    assert path.name == "broken.png"
    return InputError("broken")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--pixel-size", "0.25", "--write", "coco,rois", "--set", "grouping.min_area=20"), "pixel_size is "),
        (("--pixel-size", "0.5", "--write", "coco", "--set", "grouping.min_area=20"), "write is "),
        (("--pixel-size", "0.5", "--write", "coco,rois"), "set is "),
        ((*OPTIONS, "--numbers"), "numbers is true now"),
    ],
)
def test_other_options(cli, images, results, files_of, options, told):
    before = files_of(results)
    outcome = cli(*command("--model", "nuclei", images, "--output", results, *options, "--resume"))
    assert outcome.code == 2
    assert told in outcome.sentence()
    assert files_of(results) == before


def test_another_model(cli, tmp_path, images, results):
    other = shutil.copytree(shipped_folder("nuclei"), tmp_path / "other")
    arguments = command("--model", other, images, "--output", results, *OPTIONS, "--resume")
    assert cli(*arguments).code == 3  # the same one, elsewhere
    config = json.loads((other / "config.json").read_text())
    config["settings"]["grouping"]["least_seed"] = 0.7
    (other / "config.json").write_text(json.dumps(config))
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert "the model is not the one that the prediction" in outcome.sentence()


def test_other_images(cli, tmp_path, images, results):
    fewer = shutil.copytree(images, tmp_path / "fewer")
    outcome = cli(*command("--model", "nuclei", fewer, "--output", results, *OPTIONS, "--resume"))
    assert outcome.code == 1
    assert "is done in" in outcome.sentence()
    assert "none of the images now" in outcome.sentence()


def test_a_changed_image_is_predicted_again(cli, tmp_path, images, files_of):
    photos, folder = shutil.copytree(images, tmp_path / "photos"), tmp_path / "results"
    arguments = command("--model", "nuclei", photos, "--output", folder, "--numbers")
    assert cli(*arguments).code == 3
    shutil.copy(photos / "plant_0001.png", photos / "plant_0000.png")
    assert cli(*arguments, "--resume").code == 3
    pictures = [folder / f"plant_000{n}_instances.png" for n in (0, 1)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_pictures_that_were_edited_are_not_lost(cli, images, results):
    path = results / "plant_0002_instances.png"
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(path)
    before = path.read_bytes()
    outcome = cli(*command("--model", "nuclei", images, "--output", results, *OPTIONS, "--resume"))
    assert outcome.code == 1
    assert "`panembed measure`" in outcome.err.splitlines()[-1]
    assert path.read_bytes() == before


def test_nothing_to_go_on_with(cli, tmp_path, images):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.txt").write_text("mine")
    outcome = cli(*command("--model", "nuclei", images, "--output", tmp_path / "results", "--resume"))
    assert outcome.code == 1
    assert "holds no prediction to go on with" in outcome.sentence()
    outcome = cli(*command("--model", "nuclei", images, "--output", tmp_path / "r", "--resume", "--overwrite"))
    assert outcome.code == 2
    assert "give one of them" in outcome.sentence()


def test_two_at_once(cli, tmp_path, tiny_data, images, results):
    scored = (
        "evaluate",
        "--model",
        "nuclei",
        "--data",
        tiny_data,
        "--split",
        "all",
        "--output",
        results,
        "--overwrite",
    )
    predicted = command("--model", "nuclei", images, "--output", results, "--overwrite")
    with folder_lock(results):
        for arguments in (scored, predicted, ("measure", results)):
            outcome = cli(*arguments)
            assert outcome.code == 1
            assert "another process writes there" in outcome.sentence()


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"[1]\n", b'{"format": 9, "call": {}}\n', b"\xff\n"])
def test_a_damaged_record(cli, images, results, damage):
    (results / "prediction.jsonl").write_bytes(damage)
    for arguments in (command("--model", "nuclei", images, "--output", results, "--resume"), ("measure", results)):
        outcome = cli(*arguments)
        assert outcome.code == 1
        assert "prediction.jsonl" in outcome.sentence()


class TestMeasure:
    """Against a count of pixels in the edited picture."""

    @pytest.fixture
    def path(self, results):
        """The picture of the image with the most objects."""
        rows = rows_of(results / "summary.csv")
        best = max(rows, key=lambda row: int(row["objects"]))
        assert int(best["objects"]) >= 3
        return results / best["file"].replace(".png", "_instances.png")

    def edit(self, path):
        """Erase the first object, join the second and third, add one."""
        ids = np.asarray(Image.open(path)).copy()
        first, second, third, *_ = np.unique(ids[ids > 0])
        ids[ids == first] = 0
        ids[ids == third] = second
        ids[:6, :9] = 777
        Image.fromarray(ids).save(path)
        return ids

    def test_edited_pictures_are_measured(self, cli, results, path, files_of):
        before = files_of(results)
        ids = self.edit(path)
        outcome = cli("measure", results)
        assert outcome.code == 0, outcome.err
        assert "1 image of 6 edited" in outcome.err
        name = path.name.replace("_instances", "")
        own = [row for row in rows_of(results / "objects.csv") if row["file"] == name]
        assert [int(row["instance_id"]) for row in own] == np.unique(ids[ids > 0]).tolist()
        for row in own:
            mask = ids == int(row["instance_id"])
            assert int(row["area"]) == mask.sum()
            assert float(row["area_physical"]) == mask.sum() / 4
            centre = float(row["centroid_y"]), float(row["centroid_x"])
            assert np.allclose(centre, np.argwhere(mask).mean(0), atol=0.006)
        assert np.array_equal(np.asarray(Image.open(path)), ids)
        (summary,) = [row for row in rows_of(results / "summary.csv") if row["file"] == name]
        assert int(summary["objects"]) == len(own)
        after = files_of(results)
        changed = {k for k in before if before[k] != after[k]}
        stem = name.removesuffix(".png")
        assert changed == {
            *(f"{stem}_{kind}" for kind in ("instances.png", "semantic.png", "overlay.png", "rois.zip")),
            *(f"panoptic/{name}", "panoptic.json", "objects.csv", "summary.csv", "instances.json", "prediction.jsonl"),
        }
        others = [
            [row for row in rows_of_text(files["objects.csv"]) if row["file"] != name] for files in (before, after)
        ]
        assert others[0] == others[1]

    def test_the_files_agree(self, cli, results, path):
        """panoptic.json, read by the reader of `evaluate`, has the objects of the edited picture."""
        from panembed.datasets.samples import sample_nuclei
        from panembed.evaluation.predictions.stored import open_predictions

        ids = self.edit(path)
        assert cli("measure", results).code == 0
        stored = open_predictions(results, sample_nuclei().label_set)
        place = [names[0] for names in stored.names].index(path.name.replace("_instances.png", ""))
        found = stored.read(place).instance
        pairs = {(a, b) for a, b in zip(found.ravel().tolist(), ids.ravel().tolist()) if a or b}
        assert len(pairs) == len(np.unique(ids)) - 1 == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        content = json.loads((results / "panoptic.json").read_text())
        (entry,) = [e for e in content["annotations"] if e["file_name"] == path.name.replace("_instances", "")]
        areas = sorted(s["area"] for s in entry["segments_info"] if s["category_id"])
        assert areas == sorted(np.unique(ids[ids > 0], return_counts=True)[1].tolist())

    def test_again_changes_nothing(self, cli, images, results, path, files_of):
        self.edit(path)
        assert cli("measure", results).code == 0
        before = files_of(results)
        assert "0 images of 6 edited" in cli("measure", results).err
        assert files_of(results) == before
        assert cli(*command("--model", "nuclei", images, "--output", results, *OPTIONS, "--resume")).code == 3
        after = files_of(results)
        assert {name for name in before if before[name] != after[name]} == set()

    def test_edited_back(self, cli, results, path, files_of):
        """Restoring the picture restores all but the scores of what was drawn by hand, which nobody knows."""
        before, picture = files_of(results), path.read_bytes()
        self.edit(path)
        assert cli("measure", results).code == 0
        path.write_bytes(picture)
        path.with_name(path.name.replace("_instances", "_semantic")).write_bytes(
            before[path.name.replace("_instances", "_semantic")]
        )
        assert cli("measure", results).code == 0
        after = files_of(results)
        former, now = (rows_of_text(files["objects.csv"]) for files in (before, after))
        assert [row | {"score": ""} for row in now] == [row | {"score": ""} for row in former]

    @pytest.mark.parametrize(
        ("picture", "told"),
        [
            (np.zeros((32, SIDE), np.uint16), "is 96 x 32 pixels, but the image is 96 x 96"),
            (np.full((SIDE, SIDE, 3), 9, np.uint8), "is a picture of colours"),
            (np.full((SIDE, SIDE), 250, np.uint8), "has 8 bits, and none of the numbers"),
            (None, "_instances.png"),
            (b"no picture", "_instances.png"),
        ],
    )
    def test_pictures_that_can_not_be_used(self, cli, results, path, files_of, picture, told):
        before = files_of(results)
        good = next(p for p in sorted(results.glob("*_instances.png")) if p != path)
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(good)
        if picture is None:
            path.unlink()
        elif isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            Image.fromarray(picture).save(path)
        outcome = cli("measure", results)
        assert outcome.code == 3
        assert told in outcome.err
        assert "Traceback" not in outcome.err
        failed = rows_of(results / "failed.csv")
        assert [row["file"] for row in failed] == [str(path.parent / path.name)] or any(
            row["file"] == str(path) and told in row["reason"] for row in failed
        )
        name, emptied = (p.name.replace("_instances", "") for p in (path, good))
        rows = rows_of(results / "objects.csv")
        assert [r for r in rows if r["file"] == name] == [
            r for r in rows_of_text(before["objects.csv"]) if r["file"] == name
        ]
        assert not [r for r in rows if r["file"] == emptied]

    def test_a_photograph_that_is_gone(self, cli, tmp_path, images):
        photos, folder = shutil.copytree(images, tmp_path / "photos"), tmp_path / "results"
        cli(*command("--model", "nuclei", photos, "--output", folder))
        path = folder / "plant_0000_instances.png"
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(path)
        photo = np.asarray(Image.open(photos / "plant_0000.png").convert("RGB"))
        shutil.move(photos, tmp_path / "moved")
        assert "its photograph is gone" in cli("measure", folder).err
        assert not np.array_equal(np.asarray(Image.open(folder / "plant_0000_overlay.png")), photo)
        ids = np.zeros((SIDE, SIDE), np.uint16)
        ids[0, 0] = 1
        Image.fromarray(ids).save(path)
        assert cli("measure", folder, "--images", tmp_path / "moved").code == 0
        drawn = np.asarray(Image.open(folder / "plant_0000_overlay.png"))
        assert np.array_equal(drawn[1:, 1:], photo[1:, 1:])

    @pytest.mark.slow
    def test_killed(self, cli, results, path, whole):
        self.edit(path)
        program = textwrap.dedent(KILLED_AT).format(name="objects.csv", count=1, after=False)
        before = (results / "objects.csv").read_bytes()
        killed = subprocess.run([sys.executable, "-c", program, "measure", str(results)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert (results / "objects.csv").read_bytes() == before
        assert cli("measure", results).code == 0
        expected = shutil.copytree(whole, results.parent / "expected")
        self.edit(expected / path.name)
        assert cli("measure", expected).code == 0
        for name in ("summary.csv", "panoptic.json"):
            assert (results / name).read_bytes() == (expected / name).read_bytes()
        # Scores of the edited image are gone, as panoptic/NAME.png, which tells what was not edited, is written anew.
        found, wanted = (rows_of(folder / "objects.csv") for folder in (results, expected))
        assert [row | {"score": ""} for row in found] == [row | {"score": ""} for row in wanted]
        assert any(row["score"] for row in found)
        assert not list(results.rglob(".*"))

    def test_no_prediction_there(self, cli, tmp_path):
        assert "no such folder" in cli("measure", tmp_path / "none").sentence()
        assert "holds no prediction.jsonl" in cli("measure", tmp_path).sentence()


def rows_of(path):
    return rows_of_text(path.read_bytes())


def rows_of_text(data):
    return list(csv.DictReader(data.decode().splitlines()))


def test_numbers_on_overlays(cli, tmp_path, images):
    arguments = command("--model", "nuclei", images / "plant_0000.png", "--output")
    assert cli(*arguments, tmp_path / "a").code == 0
    assert cli(*arguments, tmp_path / "b", "--numbers").code == 0
    plain, numbered = (np.asarray(Image.open(tmp_path / f / "plant_0000_overlay.png")) for f in "ab")
    assert (plain != numbered).any()
    for name in ("objects.csv", "plant_0000_instances.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
