"""`tools/ship_model.py`: what it puts into the package, and what it refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import panembed
from panembed.inference import model_folder
from panembed.inference.model_config import read_config

TOOLS = Path(__file__).parents[2] / "tools"
_spec = importlib.util.spec_from_file_location("ship_model", TOOLS / "ship_model.py")
assert _spec is not None
ship_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ship_model)

CARD = "Rosettes in, leaves out.\n\n" + "".join(
    f"## {heading}\n\nAbout {heading.lower()}.\n\n" for heading in ship_model.WRITTEN
)


@pytest.fixture
def tool(monkeypatch, capsys, tmp_path):
    """Run the tool on a package without models; gives exit code and what it said."""
    monkeypatch.setattr(model_folder, "SHIPPED", tmp_path / "shipped")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ship_model.py", *map(str, arguments)])
        code = 0
        try:
            ship_model.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out + captured.err

    return run


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.md"
    path.write_text(CARD)
    return path


@pytest.fixture(scope="module")
def scores(tmp_path_factory, tiny_model, tiny_data):
    """What `panembed evaluate` writes for the test images."""
    from panembed.assembly import trained_model
    from panembed.datasets.layout import open_dataset
    from panembed.evaluation.scores import evaluate_model

    folder = tmp_path_factory.mktemp("scores")
    dataset, split = open_dataset(tiny_data), trained_model.split_of(tiny_model)
    evaluate_model(trained_model.load(tiny_model, device="cpu"), dataset, split.test).write(folder)
    return folder


@pytest.fixture
def run(tiny_model, tmp_path):
    """A run whose settings and whose tuning name places on somebody's machine."""
    folder = shutil.copytree(tiny_model, tmp_path / "run/model")
    data = json.loads((folder / "config.json").read_text())
    data["settings"]["model"]["encoder_weights"] = "/home/somebody/weights/encoder.pth"
    data["former_grouping"] = [{"grouping": {}, "replaced_for": {"data": "/home/somebody/data"}}]
    (folder / "config.json").write_text(json.dumps(data))
    return folder.parent


def rows_of(folder):
    with (folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_becomes_a_shipped_model(tool, card, run, scores, tmp_path, cli):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "worst.png")
    picture = tmp_path / "worst.png"
    code, said = tool(run, "rosettes", "--card", card, "--scores", scores, "--picture", picture)
    assert code == 0, said
    folder = tmp_path / "shipped/rosettes"
    assert [p.name for p in (tmp_path / "shipped").iterdir()] == ["rosettes"]
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["README.md", "config.json", "failures.png", "model.onnx", "model.safetensors"]
    # The same network, rounded.
    assert "float16" in {str(value.dtype) for value in load_file(folder / "model.safetensors").values()}
    assert panembed.load("rosettes", device="cpu").label_set == panembed.load(run, device="cpu").label_set
    # What config.json holds: all that the run's held, but for places, and the scores.
    text = (folder / "config.json").read_text()
    assert "somebody" not in text
    assert "former_grouping" not in text
    before, after = read_config(run / "model"), read_config(folder)
    assert after.settings["model"].pop("encoder_weights") == "encoder.pth"
    before.settings["model"].pop("encoder_weights")
    assert after.settings == before.settings
    assert (after.categories, after.split) == (before.categories, before.split)
    measured = json.loads((scores / "metrics.json").read_text())
    held_out = after.metrics.pop("held_out")
    assert after.metrics == before.metrics
    assert held_out["images"] == measured["images"] == len(after.split["test"])
    assert held_out["things_rq"] == measured["things"]["rq"]
    assert held_out["stuff_pq"] == measured["stuff"]["pq"]
    assert (held_out["sbd"], held_out["abs_dic"]) == (measured["sbd"], measured["abs_dic"])
    assert f"on {held_out['images']} held-out images" in cli("info").out


@pytest.mark.slow
def test_the_card(tool, card, run, scores, tmp_path):
    assert tool(run, "rosettes", "--card", card, "--scores", scores)[0] == 0
    text = (tmp_path / "shipped/rosettes/README.md").read_text()
    assert text.startswith("# rosettes, a panembed model\n\nRosettes in, leaves out.\n")
    for heading in ship_model.WRITTEN:
        assert f"\n## {heading}\n\nAbout {heading.lower()}." in text
    config = read_config(run / "model")
    assert f"{len(config.split['train'])} for training" in text
    assert "trained with seed 0" in text
    assert "failures.png" not in text
    measured, rows = json.loads((scores / "metrics.json").read_text()), rows_of(scores)
    single = 100 * np.array([float(row["sbd"]) for row in rows])
    line = next(line for line in text.splitlines() if line.startswith("| SBD "))
    assert line == f"| SBD | {100 * measured['sbd']:.1f} | {single.mean():.1f} ± {single.std(ddof=1):.1f} |"
    single = np.array([float(row["abs_dic"]) for row in rows])
    line = next(line for line in text.splitlines() if "DiC" in line)
    assert line.endswith(f"| {measured['abs_dic']:.2f} | {single.mean():.2f} ± {single.std(ddof=1):.2f} |")
    assert f"| AP50 | {100 * measured['ap50']:.1f} | - |" in text
    worst = min(rows, key=lambda row: float(row["pq_things"]))
    assert f"Lowest things PQ: `{worst['id']}` ({100 * float(worst['pq_things']):.1f})" in text


@pytest.mark.slow
def test_what_is_refused_leaves_nothing(tool, card, run, scores, tmp_path, monkeypatch):
    def refused(*arguments, name="rosettes"):
        code, said = tool(run, name, *arguments)
        assert code in (1, 2)
        assert said.startswith("ship_model: ")
        assert len(said.strip().splitlines()) == 1
        assert not [p for p in (tmp_path / "shipped").glob("*") if p.name != "there"]
        return said

    both = ("--card", card, "--scores", scores)
    with monkeypatch.context() as patch:
        patch.setattr(ship_model, "MAX_BYTES", 1_000_000)
        assert "MB in half precision, but a shipped model may have 1; take a smaller encoder" in refused(*both)
    assert "expected small letters" in refused(*both, name="../rosettes")
    (tmp_path / "shipped/there").mkdir(parents=True)
    assert "is there already" in refused(*both, name="there")
    assert "expected a PNG file" in refused(*both, "--picture", tmp_path / "none.png")
    for spoilt, words in (
        (CARD.replace("About citation.", "<!-- later -->"), "nothing is written below '## Citation'"),
        (CARD.replace("## Licence", "## License"), "unknown heading 'License'.*did you mean 'Licence'"),
        (CARD + "Made in /home/somebody/runs.\n", "'/home/somebody/runs.' is a path on this machine"),
        (CARD + "Made in C:\\Users\\me.\n", "is a path on this machine"),
    ):
        card.write_text(spoilt)
        assert re.search(words, refused(*both))
    card.write_text(CARD)
    assert "card.md" in refused("--card", tmp_path / "no-card.md", "--scores", scores)
    assert "expected metrics.json" in refused("--card", card, "--scores", tmp_path)
    # Scored on images that it has seen.
    seen = shutil.copytree(scores, tmp_path / "seen")
    text = (seen / "per_image.csv").read_text()
    config = read_config(run / "model")
    (seen / "per_image.csv").write_text(text.replace(config.split["test"][0], config.split["train"][0]))
    assert "is on one side only" in refused("--card", card, "--scores", seen)
    # A place in settings that no rule cuts off.
    path = run / "model/config.json"
    data = json.loads(path.read_text())
    data["settings"]["labels"] = {"source": "~/data/labels.yaml"}
    path.write_text(json.dumps(data))
    assert "config.json: '~/data/labels.yaml' is a path on this machine" in refused(*both)


@pytest.mark.slow
def test_shipping_again(tool, card, run, scores, tmp_path):
    """From the shipped folder itself too, as for the scores of rounded weights: rounding twice changes nothing."""
    assert tool(run, "rosettes", "--card", card, "--scores", scores)[0] == 0
    folder = tmp_path / "shipped/rosettes"
    weights = (folder / "model.safetensors").read_bytes()
    code, said = tool(folder, "rosettes", "--card", card, "--scores", scores, "--overwrite")
    assert code == 0, said
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    "text", ["https://example.org/data/set.zip", "and/or", "A1/plant001", "</b>", "1/2 px", "runs/leaf/test", "a: b"]
)
def test_what_is_no_path_of_this_machine(text):
    ship_model.refuse_paths(text, "card")


def test_the_empty_card_asks_for_every_heading(tmp_path):
    headings = [line[3:] for line in (TOOLS / "model_card.md").read_text().splitlines() if line.startswith("## ")]
    assert headings == list(ship_model.WRITTEN)
    with pytest.raises(panembed.PanembedError, match="nothing is written below '## What it is for'"):
        ship_model.read_card(TOOLS / "model_card.md")


def test_scores_of_other_settings(tool, card, run, scores, tmp_path):
    other = shutil.copytree(scores, tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | {"overrides": ["grouping.min_area=7"]}))
    code, said = tool(run, "plants", "--card", card, "--scores", other)
    assert code == 1
    assert "are of other settings, grouping.min_area=7; score the model as it is" in said
