"""What goes wrong in a training costs a batch or a sentence, never the run or its model."""

import csv
import errno
import itertools
import json
import logging
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_trainer import make, scripted

from panembed.assembly import run
from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, OutputError, SettingsError, TrainingError
from panembed.inference.model_config import read_config
from panembed.io import atomic
from panembed.losses.panoptic import PanopticLossTerms
from panembed.settings.schema import Settings
from panembed.training.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow


class Spoiled(torch.nn.Module):
    """A loss that is no number, or whose gradient is none, at some of its calls."""

    def __init__(self, loss, calls, how):
        super().__init__()
        self.loss, self.calls, self.how, self.count = loss, calls, how, itertools.count()

    def forward(self, logits, *others):
        terms = self.loss(logits, *others)
        if next(self.count) not in self.calls:
            return terms
        if self.how == "gradient":
            # Finite here, infinite to its derivative: that of a square root at 0.
            return PanopticLossTerms(terms.total + (0 * logits.sum()).sqrt(), terms.semantic, terms.instance)
        return PanopticLossTerms(terms.total * self.how, terms.semantic, terms.instance)


def spoil(trainer, calls, how):
    trainer.loss = Spoiled(trainer.loss, set(calls), how)


@pytest.mark.parametrize("how", [math.nan, math.inf, "gradient"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_spoiled_batch_leaves_no_trace(tmp_path, how, clip, caplog):
    """The network, its batch norm, its average and the optimizer are those from before the step."""
    options = {"batch_size": 1, "ema_decay": 0.9, "clip_gradient_norm": clip}
    states = []

    class Watch:
        def step(self, epoch, step, loss):
            tensors = [*trainer.network.state_dict().values(), *trainer.average.module.state_dict().values()]
            assert math.isfinite(loss)
            states.append([value.clone() for value in tensors])

        def epoch(self, row):
            states.append(row)

    dataset = SyntheticDataset(3, size=64)
    trainer, _ = make(tmp_path, dataset, progress=Watch(), **options)
    order = [trainer.examples.ids[index] for _, index in trainer.sampler]
    spoil(trainer, {1}, how)
    rows = trainer.fit()
    first, second, third, row = states
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert not all(torch.equal(a, b) for a, b in zip(second, third))
    assert all(bool(torch.isfinite(value).all()) for value in third)
    assert row["skipped_batches"] == 1
    assert math.isfinite(rows[0]["train_loss"])
    with (tmp_path / "skipped.csv").open() as file:
        (kept,) = csv.DictReader(file)
    assert (kept["epoch"], kept["step"], kept["image"]) == ("1", "2", order[1])
    assert "left out" in caplog.text


def test_nothing_is_said_where_nothing_was_left_out(tmp_path):
    rows = make(tmp_path)[0].fit()
    assert "skipped_batches" not in rows[0]
    assert not (tmp_path / "skipped.csv").exists()


def test_too_many_spoiled_batches_end_the_training(tmp_path):
    trainer, _ = make(tmp_path, SyntheticDataset(3, size=64), batch_size=1, epochs=3, skip_limit=2)
    spoil(trainer, {1, 3, 5}, math.inf)
    with pytest.raises(TrainingError, match=r"loss of 3 batches .*skip_limit=2.* epoch 2.*skipped\.csv"):
        trainer.fit()
    assert load_checkpoint(tmp_path / "checkpoints/last.pt")["epoch"] == 1


def test_what_was_left_out_outlives_a_stop(tmp_path):
    """The count goes on, and skipped.csv has each batch once."""

    class Stop:
        def step(self, epoch, step, loss):
            if (epoch, step) == (1, 2):
                signal.raise_signal(signal.SIGINT)

        def epoch(self, row):
            pass

    dataset, options = SyntheticDataset(3, size=64), {"batch_size": 1, "epochs": 2}
    whole, _ = make(tmp_path / "whole", dataset, **options)
    spoil(whole, {0, 4}, math.nan)
    rows = whole.fit()
    part, _ = make(tmp_path / "part", dataset, progress=Stop(), **options)
    spoil(part, {0}, math.nan)
    with pytest.raises(KeyboardInterrupt):
        part.fit()
    rest, _ = make(tmp_path / "part", dataset, **options)
    spoil(rest, {2}, math.nan)
    assert [{**row, "seconds": 0} for row in rest.fit(resume=True)] == [{**row, "seconds": 0} for row in rows]
    assert (tmp_path / "part/skipped.csv").read_text() == (tmp_path / "whole/skipped.csv").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_trainer import make
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import TrainingError

class Kill:
    def step(self, epoch, step, loss):
        if (epoch, step) == (2, 1):
            os.kill(trainer.loader._iterator._workers[0].pid, signal.SIGKILL)

    def epoch(self, row):
        pass

trainer, _ = make(
    Path(sys.argv[2]), SyntheticDataset(4, size=64), num_workers=1, progress=Kill(), batch_size=1, epochs=3
)
if not hasattr(trainer.loader, "_iterator"):
    trainer.loader = trainer.loader.base_dataloader
try:
    trainer.fit()
except TrainingError as error:
    print(error)
"""
"""In a process of its own: PyTorch raises wherever the process is when a worker dies, in pytest's own code, too."""


def test_a_killed_worker_is_told_in_a_sentence(tmp_path):
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert re.search(r"was killed.*--resume", done.stdout), done.stderr[-2000:]
    rest, _ = make(tmp_path, SyntheticDataset(4, size=64), batch_size=1, epochs=3)
    assert [row["epoch"] for row in rest.fit(resume=True)] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_what_a_worker_could_not_read_is_told_without_its_traceback(tmp_path, monkeypatch):
    trainer, _ = make(tmp_path, num_workers=1)

    def fail(self, key):
        raise InputError("a.png: is gone: copy it again")

    monkeypatch.setattr(type(trainer.examples), "__getitem__", fail)
    with pytest.raises(InputError) as caught:
        trainer.fit()
    assert str(caught.value) == "a.png: is gone: copy it again"


def test_a_schedule_of_one_step_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"training\.schedule: .* single step"):
        make(tmp_path, schedule="one-cycle", epochs=1)
    make(tmp_path, schedule="one-cycle", epochs=2)


@pytest.mark.parametrize(("drop", "steps", "images"), [(True, 2, 4), (False, 3, 5)])
def test_the_last_batch_is_dropped_and_said_or_taken(tmp_path, caplog, drop, steps, images):
    caplog.set_level(logging.INFO, logger="panembed")
    seen = []
    trainer, _ = make(tmp_path, SyntheticDataset(5, size=64), drop_last=drop)
    forward = trainer.model.forward
    trainer.model.forward = lambda image: (seen.append(len(image)), forward(image))[1]
    trainer.fit()
    assert (len(seen), sum(seen), trainer.steps_per_epoch) == (steps, images, steps)
    assert ("1 of 5 images" in caplog.text) == drop


def test_a_checkpoint_cut_at_any_byte(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1, "sums": torch.ones(3)})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged"):
            load_checkpoint(path)


SETTINGS = {
    "input": {"size": [64, 64]},
    "model": {
        "encoder": "tu-tf_efficientnet_lite0",
        "encoder_weights": "none",
        "embedding_dim": 4,
        "decoder_channels": [16, 8, 8],
    },
    "training": {"epochs": 1, "batch_size": 2, "precision": "float32"},
    "grouping": {"min_area": 5},
}


def test_a_disk_full_at_any_file(tmp_path, tiny_data, monkeypatch):
    """Of every file that a run writes: one sentence, a whole model or none, and a run that goes on."""
    settings, dataset = Settings.from_mapping(SETTINGS), open_dataset(tiny_data)
    flush, written = atomic._flush, []

    def counted(path):
        written.append(path.name)
        flush(path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_flush", counted)
        whole = run.train(settings, dataset, tmp_path / "whole", device="cpu")
    assert {name.split(".")[1] for name in written} >= {"config", "split", "last", "model", "metrics", "curves"}
    names = [name.split(".")[1] for name in written]
    for name in sorted(set(names)):
        full = names.index(name)
        folder, count = tmp_path / str(full), itertools.count()

        def fail(path, full=full, count=count):
            if next(count) == full:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            flush(path)

        with monkeypatch.context() as patch:
            patch.setattr(atomic, "_flush", fail)
            with pytest.raises(OutputError, match="no space is left"):
                run.train(settings, dataset, folder, device="cpu")
        model = folder / "model"
        if model.is_dir() and any(model.iterdir()):
            assert read_config(model)
            assert (model / "model.safetensors").is_file()
        assert not list(folder.rglob(".*.*.*"))
        if name == "last":
            rows = run.train(settings, dataset, folder, device="cpu", resume=True)
            assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in whole]
            assert json.loads((folder / "classes.json").read_text())


def test_a_clock_set_back_changes_nothing(tmp_path, monkeypatch):
    rows = make(tmp_path / "a", epochs=2)[0].fit()
    clock = itertools.count(2e9, -3600.0)
    monkeypatch.setattr("time.time", lambda: next(clock))
    back = make(tmp_path / "b", epochs=2, validate=scripted([1.0, 1.0]))[0].fit()
    assert [row["train_loss"] for row in back] == [row["train_loss"] for row in rows]
    assert all(row["seconds"] >= 0 for row in back)
