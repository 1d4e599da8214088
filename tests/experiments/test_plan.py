"""The file of an experiment: the runs that it asks for, how long they will take, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from panembed.errors import SettingsError
from panembed.experiments.plan import Experiment
from panembed.experiments.results import expected_seconds
from panembed.settings.schema import Settings

ROOT = Path(__file__).parents[2]
SMALL = {
    "title": "small",
    "preset": "leaf",
    "seeds": [0, 1],
    "variants": [
        {"name": "a"},
        {"name": "b", "set": {"model.embedding_dim": 8}},
        {"name": "b-wide", "from": "b", "set": {"grouping.bandwidth": 2.0}},
    ],
}


def changed(path, value, data=SMALL):
    """A copy with another value at a path of keys; None takes the key out."""
    data = copy.deepcopy(data)
    *way, last = path
    place = data
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


class TestFile:
    def test_order_and_settings(self, load, tmp_path):
        experiment = load(SMALL)
        runs = experiment.runs(tmp_path)
        assert [str(run) for run in runs] == [f"{v}, seed {s}" for s in (0, 1) for v in ("a", "b", "b-wide")]
        assert [run.settings.training.seed for run in runs] == [0, 0, 0, 1, 1, 1]
        assert [run.settings.model.embedding_dim for run in runs[:3]] == [
            Settings.load("leaf").model.embedding_dim,
            8,
            8,
        ]
        assert runs[5].settings.grouping.bandwidth == 2.0
        assert runs[5].source == runs[4].folder == tmp_path / "runs/b/seed-1"
        assert {run.state("test") for run in runs} == {"to do"}
        assert expected_seconds(runs, "test") is None

    def test_common_settings_come_before_a_variants_own(self, load, tmp_path):
        data = changed(["set"], {"model.embedding_dim": 4, "training.learning_rate": 1e-5, "input.size": [64, 96]})
        a, b, _ = load(changed(["split"], {"seed": 7}, data)).runs(tmp_path)[:3]
        assert (a.settings.model.embedding_dim, b.settings.model.embedding_dim) == (4, 8)
        assert a.settings.training.learning_rate == 1e-5
        assert a.settings.input.size == (64, 96)
        assert a.settings.split.seed == 7

    def test_select(self, load, tmp_path):
        experiment = load(SMALL)
        runs = experiment.runs(tmp_path)
        assert [str(run) for run in experiment.select(runs, ["b-wide"], 1)] == ["b, seed 0", "b-wide, seed 0"]
        assert experiment.select(runs) == runs
        with pytest.raises(SettingsError, match="no variant is called 'b-wid'; did you mean 'b-wide'"):
            experiment.select(runs, ["b-wid"])
        with pytest.raises(SettingsError, match="--seeds 3: expected 1 to 2"):
            experiment.select(runs, [], 3)

    def test_config_beside_the_file(self, load, tmp_path):
        (tmp_path / "mine.yaml").write_text("model: {embedding_dim: 5}")
        experiment = load(changed(["preset"], None) | {"config": "mine.yaml"})
        assert experiment.runs(tmp_path)[0].settings.model.embedding_dim == 5

    @pytest.mark.parametrize(
        ("path", "value", "sentence"),
        [
            (["titel"], "x", "unknown key 'titel'; did you mean 'title'"),
            (["title"], None, "title is missing"),
            (["about"], "x", "unknown key 'about'; it belongs into an entry of variants"),
            (["variants", 0, "seeds"], [1], "unknown key 'variants.0.seeds'; it belongs to the experiment as a whole"),
            (["references"], [{"name": "x", "source": "y", "values": {}, "about": "z"}], "into an entry of variants"),
            (["references"], [{"name": "x", "source": "y", "valuess": {}}], "did you mean 'values'"),
            (["title"], "T \ud800", r"'\ud800' is no letter"),
            (["variants", 0, "form"], "b", "unknown key 'variants.0.form'; did you mean 'from'"),
            (["variants", 0, "name"], "a/b", "variants.0.name: found 'a/b'"),
            (["variants", 1, "name"], "A", "variant A: the name is taken"),
            (["variants"], [], "variants: found []"),
            (["preset"], None, "one of preset: NAME and config: FILE"),
            (["preset"], "leave", "no preset 'leave'"),
            (["config"], "x.yaml", "one of preset: NAME and config: FILE"),
            (["seeds"], [1, 1], "expected different numbers"),
            (["seeds"], [0, True], "seeds.1: found True; it should be a valid integer"),
            (["seeds"], ["3"], "seeds.0: found '3'; it should be a valid integer"),
            (["score"], "all", "score: found 'all'"),
            (["columns"], ["thing.pq"], "unknown column 'thing.pq'; did you mean 'things.pq'"),
            (["set"], {"model.embeding_dim": 8}, "variant a: preset leaf: unknown key 'model.embeding_dim'"),
            (["variants", 1, "set"], {"model.encodr": "x"}, "variant b: preset leaf: unknown key 'model.encodr'"),
            (["variants", 1, "set"], {"model.embedding_dim": 0}, "variant b: preset leaf: model.embedding_dim: found"),
            (["variants", 1, "set"], {"model": {"embedding_dim": 8}}, "variant b: found key 'model'"),
            (["variants", 1, "set"], {"training.seed": 8}, "training.seed must be the same for all variants; set"),
            (["variants", 1, "set"], {"split.seed": 8}, "split.seed must be the same for all variants"),
            (["split"], {"sed": 8}, "unknown key 'split.sed'"),
            (["variants", 2, "from"], "c", "variant b-wide: from 'c': expected a variant above it that trains"),
            (["variants", 0, "from"], "b", "variant a: from 'b': expected a variant above it"),
            (["variants", 2, "set"], {"model.embedding_dim": 4}, "input.scale only; model.embedding_dim needs"),
            (["variants", 2, "set"], {}, "it changes nothing"),
            (["references"], [{"name": "x", "source": "y", "values": {"pq": 1}}], "unknown column 'pq'"),
        ],
    )  # fmt: skip
    def test_mistakes(self, load, tmp_path, path, value, sentence):
        with pytest.raises(SettingsError) as raised:
            load(changed(path, value))
        assert sentence in str(raised.value)
        assert str(raised.value).startswith(f"{tmp_path / 'experiment.yaml'}: ")
        assert "\n" not in str(raised.value)

    def test_a_misspelt_key_is_named_though_the_right_one_is_missing(self, load):
        data = changed(["title"], None)
        with pytest.raises(SettingsError, match=r"unknown key 'titel'; did you mean 'title'"):
            load(data | {"titel": "a"})

    def test_a_settings_file_without_sections(self, load, tmp_path):
        (tmp_path / "list.yaml").write_text("[1, 2]\n")
        with pytest.raises(SettingsError, match=r"list\.yaml: expected sections such as"):
            load({"title": "a", "config": "list.yaml", "variants": [{"name": "c"}]})

    def test_small_numbers_in_mappings_stay_numbers(self, load):
        experiment = load(changed(["variants", 0, "set"], {"model.options": {"eps": 1e-5, "name": "a"}}))
        assert experiment.settings(experiment.variants[0], 0).model.options == {"eps": 1e-5, "name": "a"}

    def test_another_size_of_native_images(self, load):
        third = SMALL["variants"][2] | {"set": {"input.size": [64, 64]}}
        variants = [*SMALL["variants"][:2], third]
        _, _, wide = load(changed(["variants"], variants)).variants
        assert wide.set_ == third["set"]
        with pytest.raises(SettingsError, match=r"b-wide: input\.size changes nothing where input.fit is native; set"):
            load(
                changed(
                    ["set"], {"input.fit": "native", "augmentation.source_scale": 1}, changed(["variants"], variants)
                )
            )

    def test_chain_of_weights(self, load):
        third = {"name": "c", "from": "b-wide", "set": {"grouping.bandwidth": 1.0}}
        with pytest.raises(SettingsError, match="variant c: from 'b-wide': expected a variant above it that trains"):
            load(changed(["variants"], [*SMALL["variants"], third]))

    @pytest.mark.parametrize("text", ["- a", "title: [", ""])
    def test_not_an_experiment(self, load, text):
        with pytest.raises(SettingsError, match=r"experiment\.yaml: "):
            load(text)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(SettingsError, match="can't be read"):
            Experiment.load(tmp_path / "none.yaml")

    @pytest.mark.slow
    @pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
    def test_ours(self, path, tmp_path):
        experiment = Experiment.load(path)
        settings = [run.settings for run in experiment.runs(tmp_path)]
        different = [s for i, s in enumerate(settings) if s not in settings[:i]]
        assert len(different) == len(experiment.seeds) * len(experiment.variants)
        assert [sentence for s in settings for sentence in s.advice()] == []
        for reference in experiment.references:
            for group in ("all", "things", "stuff"):
                # PQ is SQ x RQ for one class, and the mean over two for all.
                pq, sq, rq = (reference.values[f"{group}.{figure}"] for figure in ("pq", "sq", "rq"))
                if group != "all":
                    assert pq == pytest.approx(sq * rq / 100, abs=0.15)
                both = [reference.values[f"{part}.pq"] for part in ("things", "stuff")]
                assert reference.values["all.pq"] == pytest.approx(np.mean(both), abs=0.11)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: a\npreset: leaf\nvariants: [{name: a}]\nvariants: [{name: b}]", "the key 'variants' occurs twice"),
        ("title: 2020-13-45\npreset: leaf\nvariants: [{name: a}]", "not YAML: month must be in 1..12"),
        ("title: a\npreset: leaf\nvariants: " + "[" * 3000, "not YAML"),
        ("title: a\npreset: leaf\n2020-01-01: a\nvariants: [{name: a}]", "should be strings"),
        ("title: a\npreset: leaf\nset: &a {x.y: *a}\nvariants: [{name: a}]", "x.y: expected numbers, text"),
        ("title: a\npreset: leaf\nset: {model.start_from: 2020-01-01}\nvariants: [{name: a}]", "model.start_from: exp"),
        (f"title: a\npreset: leaf\nvariants: [{{name: {'a' * 101}}}]", "variants.0.name"),
        ("title: a\npreset: leaf\nset: {grouping.max_distance: .inf}\nvariants: [{name: a}]", "finite number"),
        (
            "title: a\npreset: leaf\nvariants: [{name: a}]\n"
            "references: [{name: b, source: c, values: {things.pq: .nan}}]",
            "finite number",
        ),
    ],
)
def test_text_that_yaml_or_json_stumbles_over(load, text, sentence):
    with pytest.raises(SettingsError, match=sentence):
        load(text)


def test_letters_beyond_16_bits_stay_whole(load, tmp_path):
    experiment = load(changed(["variants", 0, "set"], {"model.start_from": "runs/\U0001f331"}))
    assert experiment.runs(tmp_path)[0].settings.model.start_from == "runs/\U0001f331"


def test_a_variant_without_a_run_takes_as_long_as_the_others_on_average(tmp_path):
    runs = []
    for variant, seconds in (("a", 10), ("a", 20), ("b", 60), ("a", None), ("c", None), ("c", None)):
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        told = {"from": None, "score": "test", "settings": {}, "metrics": {}, "train_seconds": seconds}
        (folder / "scores.json").write_text(json.dumps(told))
        state = "to do" if seconds is None else "done"
        runs.append(SimpleNamespace(variant=variant, source=None, folder=folder, state=lambda part, state=state: state))
    assert expected_seconds(runs, "test") == pytest.approx(15 + 2 * 30)
