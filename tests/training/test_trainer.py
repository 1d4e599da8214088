import dataclasses
import itertools
import logging
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from panembed.assembly import trainer as assembled
from panembed.assembly.trainer import accelerator
from panembed.datasets.sample import Sample
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import SettingsError, TrainingError
from panembed.inference.preparation import Preparation
from panembed.labels.panoptic_map import PanopticMap
from panembed.losses.panoptic import PanopticLoss
from panembed.models.panoptic_net import PanopticNet
from panembed.training.run_log import RunLog
from panembed.training.trainer import EpochSampler, Interrupted, Trainer
from panembed.training.transforms import Augmentation, TrainingSet, collate

SIZE = (64, 64)

pytestmark = pytest.mark.slow  # each trains a small network


class Plants(SyntheticDataset):
    """Made-up plants; those named in `bare` have no leaf labelled, and those in `void` no label at all."""

    def __init__(self, num_images, *, bare=(), void=()):
        super().__init__(num_images, size=64)
        self.bare, self.void = bare, void

    def load(self, id):
        sample = super().load(id)
        number = self.ids.index(id)
        if number in self.bare or number in self.void:
            semantic = np.full(SIZE, 255 if number in self.void else 0)
            return Sample(sample.image, PanopticMap(semantic, np.zeros(SIZE, int)), id)
        return sample


def make(tmp_path, dataset=None, *, augmentation=None, freeze_encoder=False, validate=None, **options):
    dataset = dataset or SyntheticDataset(2, size=64)
    torch.manual_seed(0)
    network = PanopticNet(
        2, 4, encoder="tu-tf_efficientnet_lite0", decoder_channels=(16, 8, 8), freeze_encoder=freeze_encoder
    )
    kept = []
    (tmp_path / "checkpoints").mkdir(parents=True, exist_ok=True)
    options = {"epochs": 1, "batch_size": 2, "checkpoint_seconds": 1e9, "patience": None, **options}
    trainer = Trainer(
        network,
        PanopticLoss(dataset.label_set.things),
        TrainingSet(dataset, tuple(dataset.ids), Preparation(SIZE), augmentation),
        validate=validate or (lambda net: {"val_loss": 1.0}),
        save_best=lambda net, row: kept.append(({k: v.clone() for k, v in net.state_dict().items()}, dict(row))),
        checkpoint_path=tmp_path / "checkpoints/last.pt",
        log=RunLog(tmp_path),
        accelerator=Accelerator(cpu=True),
        **options,
    )
    return trainer, kept


def losses(rows):
    return [row["train_loss"] for row in rows]


def scripted(values):
    """A validation whose figures are given."""
    left = iter(values)
    return lambda net: {"val_loss": next(left)}


@pytest.mark.slow
def test_two_images_can_be_learnt_by_heart(tmp_path):
    trainer, _ = make(tmp_path, epochs=60, learning_rate=5e-3)
    rows = trainer.fit()
    assert np.mean(losses(rows)[-5:]) < 0.35 * losses(rows)[0]
    assert rows[-1]["train_semantic_loss"] < 0.35
    # The running network is not all: what prediction would see has learnt as well.
    example = trainer.examples[0, 0]
    with torch.inference_mode():
        scores, _ = trainer.network.eval()(example.image[None])
    assert ((scores[0].argmax(0) == example.semantic).float().mean()) > 0.85


def test_batches_reach_the_device(tmp_path):
    """As accelerate brings them to a GPU; `meta` is a device that every machine has."""
    trainer, _ = make(tmp_path)
    loader = DataLoader(trainer.examples, batch_size=2, sampler=[(0, 0), (0, 1)], collate_fn=collate)
    (batch,) = prepare_data_loader(loader, device=torch.device("meta"), put_on_device=True)
    assert {batch.image.device.type, batch.semantic.device.type, batch.instance.device.type} == {"meta"}
    assert batch.image.is_contiguous(memory_format=torch.channels_last)


def test_every_training_has_its_own_precision_and_one_process(monkeypatch):
    """Two trainings in one notebook."""
    cpu = torch.device("cpu")
    for precision, name in (("float32", "no"), ("bfloat16", "bf16"), ("float32", "no")):
        assert accelerator(precision, cpu).mixed_precision == name
    assembled._check_launcher()
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            with pytest.raises(SettingsError, match=f"{name}={value} says that a launcher started it"):
                assembled._check_launcher()


@pytest.mark.parametrize("which", ["weights", "loss"])
def test_what_is_no_number_is_not_saved(tmp_path, which):
    trainer, _ = make(tmp_path)
    trainer.fit()
    before = trainer.checkpoint_path.read_bytes()
    if which == "weights":
        with torch.no_grad():
            next(trainer.network.parameters())[0] = torch.nan
    else:
        trainer.sums[0] = torch.inf
    with pytest.raises(TrainingError, match=r"no longer numbers in epoch 2; lower training\.learning_rate"):
        trainer._save()
    assert trainer.checkpoint_path.read_bytes() == before


@pytest.mark.parametrize("seed", [20240131, 2**63 - 1])
def test_any_seed(tmp_path, seed):
    assert len(make(tmp_path, seed=seed)[0].fit()) == 1


def test_patience_counts_where_validation_could_tell(tmp_path):
    values = [3.0, 2.0, 1.0]
    trainer, _ = make(tmp_path, epochs=6, validate_every=2, patience=1, validate=scripted(values))
    assert len(trainer.fit()) == 6
    stopped, _ = make(tmp_path / "b", epochs=6, validate_every=2, patience=1, validate=scripted([3.0, 4.0, 1.0]))
    assert len(stopped.fit()) == 4


@pytest.mark.parametrize("monitor", ["val_loss", "val_pq"])
def test_early_stopping_and_best_weights(tmp_path, monitor):
    values = [3.0, 2.0, 2.5, 2.0, 9.0, 1.0]
    sign = 1 if monitor == "val_loss" else -1

    left = iter(values)

    def validate(net):
        seen.append({k: v.clone() for k, v in net.state_dict().items()})
        return {"val_loss": next(left)} if sign > 0 else {"val_loss": 0.0, "val_pq": -next(left)}

    seen = []
    trainer, kept = make(tmp_path, epochs=10, patience=3, monitor=monitor, validate=validate)
    rows = trainer.fit()
    assert len(rows) == 5  # the best was epoch 2, then three without a better one
    assert [row["epoch"] for _, row in kept] == [1, 2]
    best = kept[-1][0]
    assert all(torch.equal(best[name], seen[1][name]) for name in best)
    assert not all(torch.equal(best[name], seen[4][name]) for name in best)
    # Resumed, it stays stopped.
    again, kept = make(tmp_path, epochs=10, patience=3, monitor=monitor, validate=validate)
    assert len(again.fit(resume=True)) == 5
    assert kept == []


def test_a_figure_that_is_not_a_number_never_replaces_one(tmp_path):
    """Before there is any figure the newest weights are kept: a run must not end without a model."""
    trainer, kept = make(tmp_path, epochs=4, validate=scripted([math.nan, math.nan, 2.0, math.nan]))
    trainer.fit()
    assert [row["epoch"] for _, row in kept] == [1, 2, 3]
    assert trainer.stopping.best_epoch == 2


def test_validates_every_second_epoch_and_the_last(tmp_path):
    trainer, kept = make(tmp_path, epochs=3, validate_every=2, validate=scripted([2.0, 1.0]))
    rows = trainer.fit()
    assert ["val_loss" in row for row in rows] == [False, True, True]
    assert len(kept) == 2
    header, *lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert "val_loss" in header.split(",")
    assert len(lines) == 3


def test_batch_norm_keeps_its_statistics_late_in_training(tmp_path):
    statistics = []

    def validate(net):
        statistics.append({k: v.clone() for k, v in net.state_dict().items() if "running_" in k})
        return {"val_loss": 1.0}

    trainer, _ = make(tmp_path, epochs=4, batch_norm_until=0.5, validate=validate)
    trainer.fit()
    changed = [any(not torch.equal(a[k], b[k]) for k in a) for a, b in itertools.pairwise(statistics)]
    assert changed == [True, False, False]
    assert all(p.requires_grad for p in trainer.network.parameters())


def test_late_parameters_stay_bitwise_until_they_learn(tmp_path):
    seen = []

    def validate(net):
        seen.append({k: v.clone() for k, v in net.named_parameters()})
        return {"val_loss": 1.0}

    trainer, _ = make(tmp_path, epochs=4, late_from=0.5, validate=validate)
    trainer.late = (trainer.network.class_head.weight, trainer.network.class_head.bias)
    seen.append({k: v.clone() for k, v in trainer.network.named_parameters()})
    trainer.fit()
    changed = [{k for k in a if not torch.equal(a[k], b[k])} for a, b in itertools.pairwise(seen)]
    late = {"class_head.weight", "class_head.bias"}
    assert [late & names for names in changed] == [set(), set(), late, late]
    assert all("embedding_head.weight" in names for names in changed)


def test_frozen_encoder_stays_bitwise(tmp_path):
    trainer, _ = make(tmp_path, freeze_encoder=True, epochs=2)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer.fit()
    after = trainer.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder."))
    assert not torch.equal(before["embedding_head.weight"], after["embedding_head.weight"])
    assert any("running_var" in k and not torch.equal(before[k], after[k]) for k in before)


def test_gradients_are_clipped(tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def measured(self, *arguments, **options):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured)
    make(tmp_path / "free", epochs=2)[0].fit()
    free, norms = norms, []
    make(tmp_path / "clipped", epochs=2, clip_gradient_norm=0.01)[0].fit()
    assert min(free) > 0.1
    assert len(norms) == 2
    assert max(norms) <= 0.01 * 1.001


def test_fewer_images_than_a_batch(tmp_path):
    trainer, kept = make(tmp_path, SyntheticDataset(2, size=64), batch_size=16, epochs=2)
    rows = trainer.fit()
    assert len(rows) == 2
    assert np.isfinite(losses(rows)).all()
    assert kept


def test_a_single_image(tmp_path):
    # Two images are the least that batch norm learns from at one pixel; at 64x64 one will do.
    rows = make(tmp_path, SyntheticDataset(1, size=64), batch_size=4)[0].fit()
    assert np.isfinite(losses(rows)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there are fewer cores
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path, workers):
    changed = Augmentation(color_jitter=0.3, vertical_flip=True)
    dataset = SyntheticDataset(5, size=64)

    def run(name, num_workers):
        options = {"augmentation": changed, "epochs": 2, "num_workers": num_workers, "seed": 5}
        trainer, _ = make(tmp_path / name, dataset, **options)
        rows = trainer.fit()
        return [{**row, "seconds": 0} for row in rows], trainer.network.state_dict()

    (rows, state), (others, other) = run("0", 0), run("n", workers)
    assert rows == others
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize(
    ("bare", "void"), [((0, 1), ()), ((1,), ()), ((), (0, 1)), ((0,), (1,))], ids=["no object", "mixed", "void", "both"]
)
def test_images_without_objects(tmp_path, bare, void):
    trainer, _ = make(tmp_path, Plants(2, bare=bare, void=void), epochs=2)
    rows = trainer.fit()
    figures = [value for row in rows for key, value in row.items() if key.startswith("train")]
    assert np.isfinite(figures).all()
    if len(bare) + len(void) == 2:
        assert all(row["train_instance_loss"] == 0 for row in rows)
    else:
        assert rows[0]["train_instance_loss"] > 0
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values())


def test_seed_decides(tmp_path):
    def run(name, seed):
        dataset = SyntheticDataset(4, size=64)
        return losses(make(tmp_path / name, dataset, augmentation=Augmentation(), seed=seed)[0].fit())

    assert run("a", 1) == run("b", 1)
    assert run("c", 2) != run("a2", 1)


def test_average_of_weights_is_what_is_kept(tmp_path):
    trainer, kept = make(tmp_path, ema_decay=0.9, epochs=2, validate=scripted([2.0, 1.0]))
    trainer.fit()
    best, network = kept[-1][0], trainer.network.state_dict()
    assert best.keys() == network.keys()
    assert not torch.equal(best["class_head.weight"], network["class_head.weight"])
    assert all(torch.equal(best[k], v) for k, v in trainer.average.module.state_dict().items())


def test_one_cycle_rises_and_ends_near_zero(tmp_path):
    trainer, _ = make(tmp_path, SyntheticDataset(4, size=64), schedule="one-cycle", epochs=4, learning_rate=1e-3)
    rates = [row["learning_rate"] for row in trainer.fit()]
    assert rates[-1] < 1e-6
    assert max(rates) > rates[-1] * 100


def test_interrupted_between_steps_and_resumed(tmp_path):
    """The same as a signal, without a process."""

    class Stop:
        def __init__(self, at):
            self.at = at

        def step(self, epoch, step, loss):
            if (epoch, step) == self.at:
                signal_of(self.at)

        def epoch(self, row):
            pass

    def signal_of(at):
        import signal

        signal.raise_signal(signal.SIGINT)

    options = {"epochs": 2, "batch_size": 1, "ema_decay": 0.9, "augmentation": Augmentation()}
    dataset = SyntheticDataset(3, size=64)
    whole, _ = make(tmp_path / "whole", dataset, **options)
    rows = whole.fit()
    part, _ = make(tmp_path / "part", dataset, progress=Stop((2, 2)), **options)
    with pytest.raises(Interrupted, match="saved"):
        part.fit()
    assert (part.epoch, part.step) == (1, 2)
    rest, _ = make(tmp_path / "part", dataset, **options)
    assert [{**row, "seconds": 0} for row in rest.fit(resume=True)] == [{**row, "seconds": 0} for row in rows]
    ours, theirs = rest.best_network.state_dict(), whole.best_network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_every_image_once_an_epoch_in_an_order_of_its_own():
    sampler = EpochSampler(7, seed=3)
    orders = []
    for epoch in range(3):
        sampler.epoch = epoch
        pairs = list(sampler)
        assert {e for e, _ in pairs} == {epoch}
        assert sorted(i for _, i in pairs) == list(range(7))
        orders.append([i for _, i in pairs])
        sampler.start = 4
        assert [i for _, i in sampler] == orders[-1][4:]
        sampler.start = 0
    assert orders[0] != orders[1]


def test_log_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="panembed")
    make(tmp_path)[0].fit()
    assert "train_loss" in caplog.text


def test_labels_outside_the_picture_are_ignored():
    dataset = SyntheticDataset(1, size=64)
    turned = TrainingSet(
        dataset, tuple(dataset.ids), Preparation(SIZE), dataclasses.replace(Augmentation(), scale=(0.5, 0.5))
    )
    example = turned[0, 0]
    assert (example.semantic == 255).any()
    assert (example.instance[example.semantic == 255] == 0).all()


def test_a_loss_that_is_no_number_stops_training(tmp_path):
    trainer, kept = make(tmp_path, epochs=4, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss became nan.*learning_rate"):
        trainer.fit()
    assert len(kept) < 4
