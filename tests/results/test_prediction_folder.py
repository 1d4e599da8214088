"""The folder of results: what is in its tables, and what is left of it after an error."""

from __future__ import annotations

import csv
import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.errors import InputError, OutputError, SettingsError
from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.exports.exporter import ALL, FORMATS, parse_formats
from panembed.results.measure import COLUMNS, PHYSICAL_COLUMNS
from panembed.results.prediction_folder import PredictionFolder
from panembed.results.result import PanopticResult
from panembed.results.rounding import rounded

FIELD = LabelSet(
    [Category(0, "soil", False), Category(1, "crop", True, (0, 90, 200)), Category(2, "weed", True, (200, 0, 9))]
)


def result(name: str, seed: int, things: bool = True) -> PanopticResult:
    rng = np.random.default_rng(seed)
    instance = rng.integers(0, 4, (5, 6)).repeat(4, 0).repeat(4, 1) * things
    semantic = np.where(instance > 0, 1 + instance % 2, 0)
    image = rng.integers(0, 256, (*instance.shape, 3), dtype=np.uint8)
    return PanopticResult(PanopticMap(semantic, instance), FIELD, image, name)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_tell_what_the_results_hold(tmp_path: Path) -> None:
    results = [result("a", 0), result("b", 1, things=False), result("c", 2)]
    with PredictionFolder(tmp_path, FIELD) as folder:
        for found in results:
            assert folder.add(Path(f"photos/{found.name}.jpg"), found) is None
        assert folder.add(Path("photos/d.jpg"), InputError("d.jpg: is empty")) is not None
    measured = [(r.name, n, row) for r in results for n, row in enumerate(r.measure(), start=1)]
    objects = rows_of(tmp_path / "objects.csv")
    assert len(objects) == len(measured) == folder.num_objects
    for written, (name, number, row) in zip(objects, measured):
        texts = {key: "" if value is None else str(value) for key, value in rounded(row).items()}
        assert written == {"file": f"{name}.jpg", "instance_id": str(number), **texts}
        with Image.open(tmp_path / f"{name}_instances.png") as picture:
            assert np.count_nonzero(np.asarray(picture) == number) == row["area"]
    summary = rows_of(tmp_path / "summary.csv")
    assert [row["file"] for row in summary] == ["a.jpg", "b.jpg", "c.jpg"]
    for row, found in zip(summary, results):
        assert {"crop": int(row["crop"]), "weed": int(row["weed"])} == found.counts()
        assert (row["width"], row["height"], int(row["objects"])) == ("24", "20", sum(found.counts().values()))
    assert folder.num_images == 3
    assert rows_of(tmp_path / "failed.csv") == [{"file": "photos/d.jpg", "reason": "d.jpg: is empty"}]
    assert (tmp_path / "legend.png").is_file()
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg", "c.jpg"]


def test_lengths_in_the_users_unit(tmp_path: Path) -> None:
    with PredictionFolder(tmp_path, FIELD, pixel_size=0.5) as folder:
        assert folder.add(Path("a.jpg"), result("a", 0)) is None
    rows = rows_of(tmp_path / "objects.csv")
    assert rows
    assert tuple(rows[0]) == ("file", "instance_id", *COLUMNS, *PHYSICAL_COLUMNS)
    for row in rows:
        assert float(row["area_physical"]) == int(row["area"]) / 4
        assert float(row["perimeter_physical"]) == pytest.approx(float(row["perimeter"]) / 2, abs=0.01)


def test_classes_called_like_columns(tmp_path: Path) -> None:
    label_set = LabelSet([Category(1, "width", True), Category(2, "objects", True)])
    panoptic = PanopticMap([[0, 0, 1]], [[1, 2, 1]])
    with PredictionFolder(tmp_path, label_set) as folder:
        folder.add(Path("a.png"), PanopticResult(panoptic, label_set, np.zeros((1, 3, 3), np.uint8), "a"))
    row = {"file": "a.png", "width": "3", "height": "1", "objects": "3", "class width": "2", "class objects": "1"}
    totals = {"object_area": "3", "mean_object_area": "1.0", "hull_area": "3", "notes": ""}
    assert rows_of(tmp_path / "summary.csv") == [row | totals]


def test_no_images_leave_headings(tmp_path: Path) -> None:
    (tmp_path / "failed.csv").write_text("of an earlier run")
    with PredictionFolder(tmp_path, FIELD):
        pass
    assert (tmp_path / "objects.csv").read_text() == ",".join(("file", "instance_id", *COLUMNS)) + "\n"
    assert (tmp_path / "summary.csv").read_text() == (
        "file,width,height,objects,crop,weed,object_area,mean_object_area,hull_area,notes\n"
    )
    assert not (tmp_path / "failed.csv").exists()


def test_after_an_interruption_the_tables_tell_of_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PredictionFolder(tmp_path, FIELD) as folder:  # noqa: PT012
        for number in range(20):
            folder.add(Path(f"{number}.png"), result(str(number), number))
        folder.add(Path("bad.png"), InputError("bad.png: is empty"))
        raise KeyboardInterrupt
    written = [f"{number}.png" for number in range(folder.num_images)]
    assert 15 <= len(written) <= 20
    assert sorted(p.name for p in tmp_path.glob("*_overlay.png")) == sorted(
        f"{Path(n).stem}_overlay.png" for n in written
    )
    assert [row["file"] for row in rows_of(tmp_path / "summary.csv")] == written
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [image["file_name"] for image in content["images"]] == written
    assert len(rows_of(tmp_path / "objects.csv")) == folder.num_objects
    assert len(rows_of(tmp_path / "failed.csv")) == 1


class Interrupting:
    """A result under way, for which Ctrl-C comes while it is waited for."""

    calls = 0

    def cancelled(self) -> bool:
        return False

    def result(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise KeyboardInterrupt


def test_interrupted_while_the_last_are_written(tmp_path: Path) -> None:
    """The block has ended, and its end waits for the pictures."""
    folder = PredictionFolder(tmp_path, FIELD)
    with pytest.raises(KeyboardInterrupt), folder:  # noqa: PT012
        folder.add(Path("a.png"), result("a", 0))
        folder._waiting[0].result()
        folder._waiting.append(Interrupting())  # type: ignore[arg-type]
    assert folder.has_tables
    assert [row["file"] for row in rows_of(tmp_path / "summary.csv")] == ["a.png"]
    assert not list(tmp_path.rglob(".*"))


def test_a_second_interruption_leaves_no_hidden_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt, match="second"), PredictionFolder(tmp_path, FIELD) as folder:  # noqa: PT012

        def shutdown(**options: bool) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt("second")

        folder.add(Path("a.png"), result("a", 0))
        monkeypatch.setattr(folder._writer, "shutdown", shutdown)
        raise KeyboardInterrupt("first")
    assert not folder.has_tables
    assert not list(tmp_path.rglob(".*"))
    assert not list(tmp_path.glob("*.csv"))


def test_what_could_not_be_written_is_told_after_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "a_overlay.png").mkdir()
    with pytest.raises(OutputError, match=r"a_overlay\.png"), PredictionFolder(tmp_path, FIELD) as folder:  # noqa: PT012
        folder.add(Path("a.png"), result("a", 0))
        assert folder._waiting[0].exception() is not None  # it was begun, hence not dropped
        raise KeyboardInterrupt
    assert not folder.has_tables


def test_a_fault_leaves_pictures_but_no_tables(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PredictionFolder(tmp_path, FIELD) as folder:  # noqa: PT012
        folder.add(Path("a.png"), result("a", 0))
        folder._waiting[0].result()
        raise ZeroDivisionError
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["a_instances.png", "a_overlay.png", "a_semantic.png", "legend.png", "panoptic"]


@pytest.mark.parametrize("last", [True, False])
def test_a_result_that_cannot_be_written(tmp_path: Path, last: bool) -> None:
    (tmp_path / "a_overlay.png").mkdir()
    with pytest.raises(OutputError, match=r"a_overlay\.png: can't be written"):  # noqa: PT012, SIM117
        with PredictionFolder(tmp_path, FIELD) as folder:
            folder.add(Path("a.png"), result("a", 0))
            for number in range(0 if last else 20):
                folder.add(Path(f"{number}.png"), result(str(number), number))
    assert not list(tmp_path.glob("*.csv"))
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "panoptic.json").exists()


def test_two_inputs_of_one_name(tmp_path: Path) -> None:
    with PredictionFolder(tmp_path, FIELD) as folder:
        folder.add(Path("x/a.png"), result("a", 0))
        error = folder.add(Path("y/a.jpg"), result("a", 1))
    assert "y/a.jpg: its results would replace those of x/a.png" in str(error)
    assert len(rows_of(tmp_path / "summary.csv")) == 1


@pytest.mark.slow
def test_memory_holds_few_results_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[PanopticResult]] = []
    most = 0
    with PredictionFolder(tmp_path, FIELD) as folder:
        for number in range(25):
            found = result(str(number), number)
            alive.append(weakref.ref(found))
            folder.add(Path(f"{number}.png"), found)
            del found
            gc.collect()
            most = max(most, sum(reference() is not None for reference in alive))
    assert most <= 8


def test_a_name_too_long_for_its_results_costs_that_file_only(tmp_path: Path) -> None:
    long, longest = "ü" * 120 + "ab.png", "ü" * 120 + "a.png"
    with PredictionFolder(tmp_path, FIELD) as folder:
        for name in (long, "b.png", longest):
            error = folder.add(Path(name), result(Path(name).stem, 0))
            assert (error is None) == (name != long)
    assert [row["file"] for row in rows_of(tmp_path / "summary.csv")] == ["b.png", longest]
    (failed,) = rows_of(tmp_path / "failed.csv")
    assert failed["file"] == long
    assert "too long" in failed["reason"]
    assert "bytes too many: 1" in failed["reason"]


def test_a_name_that_no_table_can_hold(tmp_path: Path) -> None:
    """A byte of Latin-1, as old disks have; the others' results are none the worse."""
    path = Path(b"x/Bl\xe4tter.png".decode("utf-8", "surrogateescape"))
    with PredictionFolder(tmp_path, FIELD) as folder:
        error = folder.add(path, result(path.stem, 0))
        folder.add(Path("x/b.png"), result("b", 1))
        folder.add(path.with_suffix(".tif"), InputError(f"{path}: is empty"))
    assert "its name is not UTF-8, which tables and JSON need; rename it" in str(error)
    assert [row["file"] for row in rows_of(tmp_path / "summary.csv")] == ["b.png"]
    failed = rows_of(tmp_path / "failed.csv")
    assert [row["file"] for row in failed] == [r"x/Bl\udce4tter.png", r"x/Bl\udce4tter.tif"]
    assert len(json.loads((tmp_path / "panoptic.json").read_text())["images"]) == 1


def test_formats_that_are_not_asked_for_leave_nothing_of_an_earlier_call(tmp_path: Path) -> None:
    with PredictionFolder(tmp_path, FIELD, formats=ALL) as folder:
        folder.add(Path("a.jpg"), result("a", 0))
        folder.add(Path("b.jpg"), result("b", 1))
    said = {name.format("a") for f in ALL for name in (FORMATS[f].each, FORMATS[f].all) if name}
    assert all((tmp_path / name).is_file() for name in said)
    with PredictionFolder(tmp_path, FIELD, formats=["coco"]) as folder:
        folder.add(Path("a.jpg"), result("a", 0))
    assert [name for name in sorted(said) if (tmp_path / name).exists()] == ["instances.json"]
    assert (tmp_path / "b_rois.zip").is_file()  # of an image that this call has nothing to say of
    content = json.loads((tmp_path / "instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]
    assert len(content["annotations"]) == len(rows_of(tmp_path / "objects.csv"))


def test_an_image_that_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    with PredictionFolder(tmp_path, FIELD, formats=["cvppp"]) as folder:
        assert folder.add(Path("A1/plant001_rgb.png"), result("plant001_rgb", 0)) is None
        assert "expects files called" in str(folder.add(Path("tray.png"), result("tray", 0)))
    assert [row["file"] for row in rows_of(tmp_path / "failed.csv")] == ["tray.png"]
    assert not (tmp_path / "tray_instances.png").exists()


@pytest.mark.parametrize("given", ["roi", "rois,,coco", ""])
def test_unknown_formats_are_told(given: str) -> None:
    with pytest.raises(SettingsError, match=r"--write .* is unknown; expected rois, geojson, coco"):
        parse_formats([given])


def test_one_class_has_no_column_of_its_own_and_units_have(tmp_path: Path) -> None:
    leaves = LabelSet([Category(0, "soil", False), Category(1, "leaf", True)])
    ids = np.array([[1, 1, 0, 2]])
    picture = np.full((1, 4, 3), (10, 20, 30), np.uint8)
    for name in ("a", "b"):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    out.mkdir()
    with PredictionFolder(out, leaves, dialect="comma") as folder:
        for name, size in (("a", PixelSize(0.5, "mm")), ("b", None)):
            found = PanopticResult(PanopticMap(ids > 0, ids), leaves, picture, name, pixel_size=size)
            folder.add(tmp_path / f"{name}.png", found)
    text = (out / "summary.csv").read_text(encoding="utf-8-sig").splitlines()
    heading = text[0].split(";")
    assert len(set(heading)) == len(heading)
    assert "leaf" not in heading
    first, second = (dict(zip(heading, line.split(";"), strict=True)) for line in text[1:])
    assert (first["objects"], first["object_area"], first["mean_object_area"]) == ("2", "3", "1,5")
    assert (first["object_area_mm2"], second["object_area_mm2"]) == ("0,75", "")
    assert (first["mean_green"], first["greenness"]) == ("20,0", "0,3333")
    with (out / "objects.csv").open(newline="", encoding="utf-8-sig") as file:
        objects = list(csv.DictReader(file, delimiter=";"))
    assert [row["area_mm2"] for row in objects] == ["0,5", "0,25", "", ""]
    assert [row["sum_blue"] for row in objects] == ["60", "30", "60", "30"]
