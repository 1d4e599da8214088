"""The command line explains itself within 80 columns."""

import re

import pytest

from panembed.settings.schema import preset_names


@pytest.mark.parametrize("group", [(), ("data",)])
def test_no_description_is_cut_off(cli, group):
    lines = cli(*group, "--help").out.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.rstrip().endswith("...")]


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "tune", "experiment", "export", "measure", "demo"])
def test_options_say_what_they_take(cli, verb):
    text = cli(verb, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"^  -.*<(str|int|float|text|integer|path)[^>]*>", text, re.MULTILINE), text


def test_choices_are_shown(cli):
    told = " ".join(" ".join(cli(verb, "--help").out.split()) for verb in ("train", "evaluate", "tune")).replace(
        "- ", "-"
    )
    for words in (
        "test|val|train|all",
        "val|train",
        "pq_things, sbd, pq or counts",
        "cvppp, cityscapes",
        "auto, cpu, cuda",
    ):
        assert words in told
    assert told.count("can be repeated; `panembed info --settings` lists the keys") == 2
    for name in preset_names():
        assert name.removesuffix("-scse") in told


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("train", "--epochs", "5"), "--epochs is a setting; write --set training.epochs=5"),
        (("train", "--batch-size=3"), "--batch-size is a setting; write --set training.batch_size=3"),
        (("predict", "--min-area", "9"), "--min-area is a setting; write --set grouping.min_area=9"),
        (("train", "--no-such-thing", "5"), None),
        (("tune", "--epochs", "5"), None),
        (("train", "--seed", "5"), None),
    ],
)
def test_an_option_that_is_a_setting(cli, arguments, hint):
    outcome = cli(*arguments)
    assert outcome.code == 2
    told = [line.removeprefix("panembed: ") for line in outcome.err.splitlines() if line.startswith("panembed: ")]
    assert told == ([hint] if hint else [])


def test_a_wrong_model_lists_those_that_there_are(cli, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "photos").mkdir()
    for name in ("nuclie", "runs/nothing", tmp_path / "photos"):
        outcome = cli("predict", "--model", name, tmp_path / "a.png", "--output", tmp_path / "out")
        assert outcome.code == 1
        assert "one of leaf, nuclei" in outcome.sentence()


@pytest.mark.slow
def test_what_training_says_is_in_percent_and_tells_the_epoch_kept(cli, tmp_path, tiny_data, tiny_config):
    run = tmp_path / "run"
    outcome = cli("train", "--config", tiny_config, "--data", tiny_data, "--output", run, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    kept = re.search(r"trained 2 epochs, kept epoch (\d) \(best loss on validation, ([\d.]+)\)", outcome.err)
    assert kept
    card, log = (run / "model/README.md").read_text(), (run / "train.log").read_text()
    assert f"| epoch | {kept[1]} |" in card
    shown = {line.split(": ")[-1] for line in re.findall(r"things PQ [\d.]+", outcome.err)}
    for text in shown:
        assert f"val_pq_things {text.split()[-1]} %" in log
    assert re.search(r"\| val_pq_things \| [\d.]+ % \|", card)
