"""Inputs that are no photographs: results of before, and kinds that are not read."""

import csv

import numpy as np
import pytest

from panembed.io.images import write_png

pytestmark = pytest.mark.slow


def test_results_and_other_kinds_among_photographs(cli, tmp_path, tiny_model):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        write_png(photos / f"{name}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    assert cli("predict", "--model", tiny_model, photos, "--output", photos / "first").code == 0
    second = cli("predict", "--model", tiny_model, *sorted(photos.iterdir()), "--output", tmp_path / "second")
    assert (second.code, "earlier results skipped" in second.err) == (0, True)
    with (tmp_path / "second" / "summary.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["a.png", "b.png"]
    alone = cli("predict", "--model", tiny_model, photos / "first", "--output", tmp_path / "third")
    assert "holds what predict wrote" in alone.sentence()
    (photos / "c.HEIC").write_bytes(b"ftypheic")
    fourth = cli("predict", "--model", tiny_model, photos, "--output", tmp_path / "fourth")
    assert fourth.code == 3
    assert "c.HEIC: is a phone's photograph" in (tmp_path / "fourth" / "failed.csv").read_text()
