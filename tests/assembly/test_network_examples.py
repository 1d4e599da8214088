"""What a report shows of a run's network: by ONNX Runtime or PyTorch alike, in time, and told where it can't be had."""

import shutil

import numpy as np
import pytest
from sklearn.decomposition import PCA

from panembed.assembly.network_examples import add_network, flattened
from panembed.datasets.source import DataSource
from panembed.report.html import Report

_MODEL_PANELS = ["Input", "Class mask", "Clusters", "Truth"]


@pytest.fixture
def run(tmp_path, tiny_model, tiny_data):
    """A run folder as train leaves it, without the training."""
    from panembed.inference.model_config import read_config
    from panembed.settings.schema import Settings

    shutil.copytree(tiny_model, tmp_path / "run" / "model")
    settings = Settings.from_mapping(read_config(tiny_model).settings)
    (tmp_path / "run" / "config.yaml").write_text(settings.to_yaml())
    DataSource(tiny_data).write(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("size", [2, 3, 16])
def test_embeddings_are_flattened_as_principal_components_are(size):
    points = np.random.default_rng(size).normal(size=(200, size)) * np.arange(1, size + 1)
    plane, share = flattened(points)
    if size == 2:
        np.testing.assert_array_equal(plane, points)
        return
    oracle = PCA(2).fit(points)
    np.testing.assert_allclose(np.abs(plane), np.abs(oracle.transform(points)), atol=1e-8)
    assert share == pytest.approx(oracle.explained_variance_ratio_.sum())


@pytest.mark.slow
def test_the_network_is_shown_on_validation_images(run):
    report = Report("t", "k")
    add_network(report, run, None, seconds=600)
    assert report.notes == []
    assert len(report.network) == 2  # a fifth of ten images
    for example in report.network:
        assert [panel.title for panel in example.panels][:4] == _MODEL_PANELS
    assert [len(example.panels) for example in report.augmentation] == [4, 4]


@pytest.mark.slow
def test_time_is_kept(run):
    report = Report("t", "k")
    add_network(report, run, None, seconds=0)
    assert report.network == []
    assert report.augmentation == []
    assert "Time was up" in report.notes[0]


def test_data_that_are_gone_become_a_note(run, tiny_data, tmp_path):
    report = Report("t", "k")
    DataSource(tmp_path / "gone").write(run)
    add_network(report, run, None, seconds=600)
    assert "gone" in report.notes[0]
    (run / "data.json").unlink()
    add_network(report, run, None, seconds=600)
    assert "--data" in report.notes[1]


@pytest.mark.slow
def test_report_of_a_run(run, cli):
    (run / "metrics.csv").write_text(
        "epoch,seconds,train_loss,val_loss,val_pq_things\n1,60,2.5,2.0,0.25\n2,60,1.5,inf,0.5\n"
    )
    outcome = cli("report", run)
    assert outcome.code == 0, outcome.err
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "lowest validation loss" in page
    assert "2.000, epoch 1" in page
    assert "PQ of things: last 50" in page
    assert page.count('alt="Clusters of') == 2
    assert "no scores yet" in outcome.err
