"""Pixel sizes as tifffile writes them, as users type them, and what is no scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from panembed.errors import InputError, SettingsError
from panembed.io.pixel_scales import choose_scales
from panembed.io.pixel_size import PixelSize, parse_pixel_size, read_pixel_size

PICTURE = np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0.25", PixelSize(0.25)),
        ("0.25mm", PixelSize(0.25, "mm")),
        ("0.25um", PixelSize(0.25, "um")),
        (" 0.25 µm", PixelSize(0.25, "um")),
        ("0.25 μm", PixelSize(0.25, "um")),
        ("1e-3 m", PixelSize(0.001, "m")),
        ("0,5 micron", PixelSize(0.5, "um")),
        ("2.5e2nm", PixelSize(250, "nm")),
        ("0.01 inch", PixelSize(0.254, "mm")),
    ],
)
def test_what_users_type(text: str, size: PixelSize) -> None:
    found = parse_pixel_size(text)
    assert (found.length, found.unit) == (pytest.approx(size.length), size.unit)


@pytest.mark.parametrize("text", ["", "um", "0", "-1um", "nan", "inf", "1e999", "1.2.3", "0.25 ells", "1/4um", "0um"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(SettingsError, match="expected"):
        parse_pixel_size(text)


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, imagej=True, resolution=(4, 4), metadata={"unit": unit})
    found = read_pixel_size(path)
    assert (found.pixel_size, found.source) == (PixelSize(0.25, "um"), "ImageJ")


@pytest.mark.parametrize(("unit", "ours"), [("µm", "um"), ("nm", "nm"), ("mm", "mm")])
def test_ome(tmp_path: Path, unit: str, ours: str) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    tifffile.imwrite(path, PICTURE, ome=True, metadata=metadata | {f"PhysicalSize{a}Unit": unit for a in "XY"})
    found = read_pixel_size(path)
    assert (found.pixel_size, found.source) == (PixelSize(0.65, ours), "OME")


def test_a_resolution_that_was_measured(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, resolution=(40_000, 40_000), resolutionunit="CENTIMETER")
    size = read_pixel_size(tmp_path / "a.tif").pixel_size
    assert size is not None
    assert size.to("um") == PixelSize(0.25, "um")


@pytest.mark.parametrize("dpi", [72, 96, 300, 600])
def test_a_resolution_for_printing_is_no_scale(tmp_path: Path, dpi: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, resolution=(dpi, dpi), resolutionunit="INCH")
    found = read_pixel_size(tmp_path / "a.tif")
    assert found.pixel_size is None
    assert f"{dpi} pixels an inch is for printing" in found.note
    assert f"--pixel-size {25.4 / dpi:.4g}mm" in found.note
    for suffix in ("jpg", "png"):
        Image.fromarray(PICTURE).save(tmp_path / f"a.{suffix}", dpi=(dpi, dpi))
        assert read_pixel_size(tmp_path / f"a.{suffix}").pixel_size is None


def test_pixels_that_are_no_squares(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, imagej=True, resolution=(4, 2), metadata={"unit": "um"})
    found = read_pixel_size(tmp_path / "a.tif")
    assert found.pixel_size is None
    assert "0.25 x 0.5 um, which is no square" in found.note


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_imagej_without_a_length(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PICTURE, imagej=True, metadata={"unit": unit})
    assert read_pixel_size(tmp_path / "a.tif").pixel_size is None


def test_a_table_of_sizes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    table = tmp_path / "sizes.csv"
    table.write_text("file;pixel_size;unit\na.png;0,5;mm\nb;250;um\n", encoding="utf-8-sig")
    scales = choose_scales(files, str(table))
    assert [scales.of(file) for file in files] == [PixelSize(0.5, "mm"), PixelSize(0.25, "mm"), None]
    assert scales.notes == (f"1 of 3 images have no pixel size in {table}, c.png among them",)
    assert choose_scales(files, str(table), "um").of(files[0]) == PixelSize(500, "um")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,pixel_size\n", "expected file and pixel_size"),
        ("file,pixel_size\na.png,large\n", "line 2: pixel size 'large"),
        ("file,pixel_size\na.png,1\na.png,2\n", "line 3: a.png has another pixel size above"),
        ("", "expected file and pixel_size"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        choose_scales([], str(tmp_path / "sizes.csv"))
    with pytest.raises(InputError, match="can't be read as a table"):
        choose_scales([], str(tmp_path / "none.csv"))


def test_tags_are_said_and_come_in_one_unit(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.tif", "b.tif", "c.tif")]
    tifffile.imwrite(files[0], PICTURE, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    tifffile.imwrite(files[1], PICTURE, imagej=True, resolution=(1000, 1000), metadata={"unit": "mm"})
    tifffile.imwrite(files[2], PICTURE, resolution=(72, 72), resolutionunit="INCH")
    scales = choose_scales(files)
    assert [scales.of(file) for file in files] == [PixelSize(0.25, "um"), PixelSize(1.0, "um"), None]
    assert "pixel size of 2 of 3 images from ImageJ tags: 2 different ones" in scales.notes[0]
    assert "c.tif: its resolution of 72 pixels an inch is for printing" in scales.notes[1]
    assert all(choose_scales(files, "none").of(file) is None for file in files)
    with pytest.raises(SettingsError, match="--unit: no image tells the size of its pixels"):
        choose_scales(files[2:], None, "um")
    with pytest.raises(SettingsError, match="--unit has no effect with --pixel-size none"):
        choose_scales(files, "none", "um")
    with pytest.raises(SettingsError, match="unit 'ells' is unknown"):
        choose_scales(files, "1", "ells")
