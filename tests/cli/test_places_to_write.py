"""Folders in use, files in the way, full disks: one sentence, and nothing is lost or half written."""

import os
import re
import resource
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow  # each runs a whole command


@contextmanager
def files_up_to(size):
    """Let no file grow beyond this many bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_output_in_use(cli, tiny_model, tiny_data, tiny_config, tmp_path, files_of):
    place = tmp_path / "place"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    for arguments in (
        ["train", "--config", tiny_config, "--data", tiny_data],
        ["evaluate", "--model", tiny_model, "--data", tiny_data],
        ["predict", "--model", tiny_model, tiny_data / "images"],
    ):
        outcome = cli(*arguments, "--output", place)
        assert outcome.code == 1
        assert f"{place}: holds files already" in outcome.sentence()
        assert "--overwrite" in outcome.sentence()
        assert files_of(place) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict"])
def test_output_is_a_file(cli, tiny_model, tiny_data, tiny_config, tmp_path, verb):
    (tmp_path / "file").write_text("x")
    arguments = {
        "train": ["--config", tiny_config, "--data", tiny_data],
        "evaluate": ["--model", tiny_model, "--data", tiny_data],
        "predict": ["--model", tiny_model, tiny_data / "images"],
    }[verb]
    for place in (tmp_path / "file", tmp_path / "file/under"):
        outcome = cli(verb, *arguments, "--output", place)
        assert outcome.code == 1
        assert f"{place}: a part of this path is a file" in outcome.sentence()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_may_not_be_written(cli, tiny_model, tiny_data, tmp_path):
    place = tmp_path / "locked"
    place.mkdir(mode=0o555)
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "--output", place / "p")
    assert outcome.code == 1
    assert str(place) in outcome.sentence()


def test_output_that_not_even_root_may_make(cli, tiny_model, tiny_data):
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images", "--output", "/proc/panembed")
    assert outcome.code == 1
    assert "/proc/panembed: can't be created" in outcome.sentence()


def test_disk_full_while_predicting(cli, tiny_model, tiny_data, tmp_path):
    with files_up_to(60):
        outcome = cli("predict", "-m", tiny_model, tiny_data / "images/plant0000.png", "-o", tmp_path / "p")
    assert outcome.code == 1
    assert "can't be written" in outcome.sentence()
    assert str(tmp_path / "p") in outcome.sentence()
    assert [p for p in (tmp_path / "p").rglob("*") if p.is_file()] == []


def test_disk_full_while_evaluating(cli, tiny_model, tiny_data, tmp_path):
    with files_up_to(100):
        outcome = cli("evaluate", "-m", tiny_model, "--data", tiny_data, "-o", tmp_path / "e", "--pictures", "0")
    assert outcome.code == 1
    assert "can't be written" in outcome.sentence()
    assert str(tmp_path / "e") in outcome.sentence()


@pytest.mark.parametrize("part", ["settings", "weights", "checkpoint"])
def test_disk_full_while_training(cli, tiny_model, tiny_data, tiny_config, tmp_path, part):
    run = tmp_path / "run"
    # A checkpoint adds AdamW's two moments to the weights; a short decoder leaves most of the encoder untrained.
    weights = (tiny_model / "model.safetensors").stat().st_size
    size = {"settings": 100, "weights": weights // 2, "checkpoint": weights * 103 // 100}[part]
    with files_up_to(size):
        outcome = cli("train", "--config", tiny_config, "--data", tiny_data, "-o", run)
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    assert re.match(r"panembed: .* can't be written, ", last), outcome.err
    assert str(run) in last
    assert not [p.name for p in run.rglob(".*")]
    names = {"settings": "config.yaml", "weights": "model.safetensors", "checkpoint": "last.pt"}
    assert names[part] in last
    if part != "settings":
        # With room again it goes on.
        assert cli("train", "--data", tiny_data, "-o", run, "--resume").code == 0


def test_disk_full_on_rename(cli, tiny_model, tiny_data, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = cli("predict", "-m", tiny_model, tiny_data / "images/plant0000.png", "-o", tmp_path / "p")
    assert outcome.code == 1
    assert "no space is left on the disk" in outcome.sentence()
