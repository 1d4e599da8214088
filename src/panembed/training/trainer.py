"""The training loop."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Sampler

from panembed.errors import PanembedError, SettingsError, TrainingError
from panembed.losses.panoptic import PanopticLoss
from panembed.training.checkpoint import load_checkpoint, save_checkpoint
from panembed.training.early_stopping import EarlyStopping
from panembed.training.run_log import LOGGER, RunLog
from panembed.training.transforms import TrainingExample, TrainingSet, collate

Validate = Callable[[nn.Module], dict[str, float]]
"""Figures of a network on the validation images, such as val_loss and val_pq."""


class Progress(Protocol):
    """Told of every step, to draw a bar."""

    def step(self, epoch: int, step: int, loss: float) -> None:
        """A step of an epoch ended; both count from 1."""

    def epoch(self, row: dict[str, float | int]) -> None:
        """An epoch ended."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted, and all of it was saved."""


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends on seed and epoch only."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch, self.start = length, seed, 0, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.of_epoch(self.epoch)[self.start :])

    def of_epoch(self, epoch: int) -> list[tuple[int, int]]:
        """(epoch, index) of all images in the order of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        return [(epoch, int(index)) for index in order]


@dataclass
class Trainer:
    """Trains a network; can be stopped at any moment and resumed to the same end.

    Attributes:
        network: image -> (class scores, embeddings), and seeds where it has a head for them.
        loss: of both heads.
        examples: training images.
        validate: figures of a network on the validation images.
        save_best: called with the network whenever the monitored figure is the best so far.
        checkpoint_path: where the state is kept.
        log: one row per epoch.
        epochs: how many.
        batch_size: images per step.
        drop_last: leave out the last, smaller batch of an epoch unless it is the only one.
        skip_limit: batches without a finite loss and gradient that are left out; one more ends the training.
        learning_rate: of AdamW; the peak with schedule "one-cycle".
        weight_decay: of AdamW.
        schedule: "constant", or "one-cycle" (Smith and Topin 2018), which ends near zero.
        clip_gradient_norm: None leaves gradients as they are.
        ema_decay: validate and keep an average of the weights over steps; None keeps the weights themselves.
        batch_norm_until: share of the epochs after which batch norm normalises by its running statistics, as it will in
            prediction, and these stay as they are. Statistics of a batch of few images differ from them, and what the
            network learned with the ones it unlearns with the others (Wu and Johnson 2021, section 3); 1 never does.
        late: parameters that stay as they are at first.
        late_from: share of the epochs after which these learn, too.
        monitor: figure that decides what is best; greater is better unless it ends in "loss".
        patience: epochs without a better figure after which training stops.
        validate_every: epochs between validations; the last epoch is always validated.
        seed: of image order and of what is random in the network.
        num_workers: processes that augment.
        checkpoint_seconds: least time between two checkpoints within an epoch.
        progress: told of every step.
    """

    network: nn.Module
    loss: PanopticLoss
    examples: TrainingSet
    validate: Validate
    save_best: Callable[[nn.Module, dict[str, float | int]], None]
    checkpoint_path: Path
    log: RunLog
    accelerator: Accelerator = field(default_factory=Accelerator)
    epochs: int = 100
    batch_size: int = 4
    drop_last: bool = True
    skip_limit: int = 10
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    schedule: str = "constant"
    clip_gradient_norm: float | None = None
    ema_decay: float | None = None
    batch_norm_until: float = 1.0
    late: tuple[nn.Parameter, ...] = ()
    late_from: float = 0.0
    monitor: str = "val_loss"
    patience: int | None = 20
    validate_every: int = 1
    seed: int = 0
    num_workers: int = 0
    checkpoint_seconds: float = 60.0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.sampler = EpochSampler(len(self.examples), self.seed)
        loader = DataLoader(
            self.examples,
            batch_size=min(self.batch_size, len(self.examples)),
            sampler=self.sampler,
            drop_last=self.drop_last,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # The images are shared, not sent, which Python's newer ways to start a process can't do for many tensors.
            multiprocessing_context="fork" if self.num_workers > 0 and sys.platform == "linux" else None,
        )
        # In step with the sampler, not with what accelerate makes of it.
        whole, rest = divmod(len(self.examples), self.batch_size)
        self.left_out = rest if self.drop_last and whole else 0
        self.steps_per_epoch = whole + (rest > 0 and not self.left_out)
        if self.schedule == "one-cycle" and self.epochs * self.steps_per_epoch < 2:
            raise SettingsError(
                "training.schedule: one-cycle rises and falls over the steps of a training, but this one has a single "
                "step, whose rate would be next to nothing; expected more training.epochs, or schedule=constant"
            )
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(self.network, optimizer, loader)
        self.scheduler: Any = None
        if self.schedule == "one-cycle":
            self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, self.learning_rate, total_steps=self.epochs * self.steps_per_epoch
            )
        self.average: AveragedModel | None = None
        if self.ema_decay is not None:
            self.average = AveragedModel(self.network, multi_avg_fn=_exponential(self.ema_decay), use_buffers=True)
        self.stopping = EarlyStopping(self.patience, maximize=not self.monitor.endswith("loss"))
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.rate = self.learning_rate
        self.sums = torch.zeros(3, dtype=torch.float64)

    def fit(self, *, resume: bool = False) -> list[dict[str, float | int]]:
        """Train to the end, or until validation stops improving.

        Args:
            resume: go on from the checkpoint.

        Returns:
            The figures of each epoch.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after the step under way was finished and the state saved.
            TrainingError: the loss or the weights are no longer numbers, and the last checkpoint stays as it is; or a
                batch is too small for batch norm; or a process that augments images was killed.
        """
        if resume:
            self._restore()
        if self.left_out:
            LOGGER.info(
                "the last batch of an epoch would have %d of %d images and is left out, other images each time; "
                "training.drop_last=false takes it",
                *(self.left_out, len(self.examples)),
            )
        try:
            return self._fit()
        except (RuntimeError, ConnectionError, EOFError) as error:
            # Torch raises the first wherever the program happens to be when a worker ends, else its pipes break.
            told = ("DataLoader worker", "ancdata")
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in told):
                raise
            raise TrainingError(
                "a process that augments images was killed, mostly because memory ran out; go on with --resume, or "
                f"train anew with fewer than training.num_workers={self.num_workers}"
            ) from error
        except PanembedError as error:
            # Of a worker it is raised anew around the text of its traceback.
            if "\nOriginal Traceback" not in str(error):
                raise
            said = str(error).rstrip().rpartition("\n")[2].partition(": ")[2]
            raise type(error)(said) from error

    def _fit(self) -> list[dict[str, float | int]]:
        saved = time.monotonic()
        with _stop_on_signal() as stop:
            while self.epoch < self.epochs and not self._is_exhausted():
                started = time.monotonic() - self.seconds
                for batch in self._batches():
                    self._train_step(batch)
                    due = stop.is_set() or time.monotonic() - saved >= self.checkpoint_seconds
                    if due and self.step < self.steps_per_epoch:
                        self.seconds = time.monotonic() - started
                        self._save()
                        saved = time.monotonic()
                        if stop.is_set():
                            raise Interrupted("all is saved, go on with --resume")
                self._end_epoch(time.monotonic() - started)
                self._save()
                saved = time.monotonic()
                if stop.is_set():
                    raise Interrupted("all is saved, go on with --resume")
        return self.log.rows

    def _is_exhausted(self) -> bool:
        """Whether validation has stopped improving; an epoch without validation says nothing."""
        return self.epoch % self.validate_every == 0 and self.stopping.exhausted(self.epoch - 1)

    def _batches(self) -> Iterator[TrainingExample]:
        self.sampler.epoch = self.epoch
        self.sampler.start = self.step * self.batch_size
        yield from self.loader
        self.sampler.start = 0

    def _train_step(self, batch: TrainingExample) -> None:
        self.model.train()
        if self.epoch >= round(self.batch_norm_until * self.epochs):
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        statistics = self._batch_statistics()
        # What is random inside the network depends on the step only, so a resumed run repeats it.
        torch.manual_seed(((self.seed * 1_000_003 + self.epoch) * 1_000_003 + self.step) % 2**63)
        try:
            with self.accelerator.autocast():
                logits, embeddings, *seeds = self.model(batch.image)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                f"a batch of {len(batch.image)} image of {batch.image.shape[2]} x {batch.image.shape[3]} leaves batch "
                "norm a single value; expected more images, larger ones, or training.batch_norm_until=0, which lets it "
                "keep its statistics"
            ) from error
        terms = self.loss(logits, embeddings, batch.semantic, batch.instance, *seeds)
        self.accelerator.backward(terms.total)
        if self.epoch < round(self.late_from * self.epochs):
            for parameter in self.late:
                parameter.grad = None  # the optimizer leaves it alone, weight decay included
        if self.clip_gradient_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_gradient_norm)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.rate = self.optimizer.param_groups[0]["lr"]
        # The only wait for the device within a step.
        figures = torch.stack([terms.total.detach(), terms.semantic, terms.instance, norm]).cpu().double()
        is_finite = bool(torch.isfinite(figures).all())
        if not is_finite:
            # Without gradients the optimizer changes nothing, and the schedule goes on in step.
            self.optimizer.zero_grad()
            for kept, before in statistics:
                kept.copy_(before)
            self._note_skipped(float(figures[0]), float(figures[3]))
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.optimizer.zero_grad()
        if is_finite:
            if self.average is not None:
                self.average.update_parameters(self.network)
            self.sums += figures[:3]
        self.step += 1
        if self.progress is not None:
            self.progress.step(self.epoch + 1, self.step, float(self.sums[0]) / max(1, self._num_learned))

    def _batch_statistics(self) -> list[tuple[Tensor, Tensor]]:
        """The running statistics of batch norm that a step changes, and copies of them."""
        norms = (m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training)
        return [(buffer, buffer.clone()) for module in norms for buffer in module.buffers()]

    @property
    def _num_learned(self) -> int:
        """Steps of this epoch that the network learned from."""
        return self.step - self.log.num_skipped(self.epoch + 1)

    def _note_skipped(self, loss: float, norm: float) -> None:
        """Keep which images a batch left out had; too many of them end the training."""
        order = [index for _, index in EpochSampler(len(self.examples), self.seed).of_epoch(self.epoch)]
        first = self.step * self.batch_size
        images = [self.examples.ids[index] for index in order[first : first + self.batch_size]]
        self.log.add_skipped(self.epoch + 1, self.step + 1, loss, norm, images)
        count = self.log.num_skipped()
        if count > self.skip_limit:
            raise TrainingError(
                f"training: the {'gradient' if math.isfinite(loss) else 'loss'} of {count} batches was no finite "
                f"number, more than training.skip_limit={self.skip_limit}, at last in epoch {self.epoch + 1}; look at "
                f"the images in {self.log.skipped_path}, lower training.learning_rate (now {self.learning_rate}), or "
                "set training.clip_gradient_norm"
            )

    @property
    def best_network(self) -> nn.Module:
        """The network that is validated and kept: the average of weights where there is one."""
        return self.network if self.average is None else self.average.module

    def _end_epoch(self, seconds: float) -> None:
        skipped = self.log.num_skipped(self.epoch + 1)
        means = (self.sums / max(self._num_learned, 1)).tolist()
        if skipped == self.step:
            figure = self.log.skipped[-1]
            name = "gradient" if math.isfinite(figure["loss"]) else "loss"
            raise TrainingError(
                f"training: the {name} became {figure[name]} in every batch of epoch {self.epoch + 1}; lower "
                f"training.learning_rate (now {self.learning_rate}), or set training.clip_gradient_norm"
            )
        row: dict[str, float | int] = {
            "epoch": self.epoch + 1,
            "train_loss": means[0],
            "train_semantic_loss": means[1],
            "train_instance_loss": means[2],
            "learning_rate": self.rate,
        }
        if (self.epoch + 1) % self.validate_every == 0 or self.epoch + 1 == self.epochs:
            row.update(self.validate(self.best_network))
            # Where the figure can't be told, say without validation images, the newest weights are better than none.
            if self.stopping.update(row.get(self.monitor, float("nan")), self.epoch) or self.stopping.best is None:
                self.save_best(self.best_network, row)
        if skipped:
            row["skipped_batches"] = skipped
        row["seconds"] = round(seconds, 2)
        self.log.add(row)
        if self.progress is not None:
            self.progress.epoch(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        # Weights that are no numbers would end every later attempt, too.
        if not all(bool(torch.isfinite(value).all()) for value in (self.sums, *self.network.parameters())):
            raise TrainingError(
                f"training: the loss or the weights are no longer numbers in epoch {self.epoch + 1}; lower "
                f"training.learning_rate (now {self.learning_rate}), or set training.clip_gradient_norm; the last "
                "checkpoint stays as it was"
            )
        state = {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else _plain(self.scheduler.state_dict()),
            "stopping": self.stopping.state_dict(),
            "rows": self.log.rows,
            "skipped": self.log.skipped,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
        }
        save_checkpoint(self.checkpoint_path, state)

    def _restore(self) -> None:
        state = load_checkpoint(self.checkpoint_path)
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.stopping.load_state_dict(state["stopping"])
        self.log.rows = state["rows"]
        self.log.write()
        self.log.restore_skipped(state.get("skipped", []))
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.sums = state["sums"]


def _exponential(decay: float) -> Callable[[Any, Any, Any], None]:
    """Moving average whose decay rises to `decay` as (1 + n) / (10 + n), so that short runs aren't held back."""

    def average(averaged: list[Tensor], current: list[Tensor], num_averaged: int | Tensor) -> None:
        count = float(num_averaged)
        weight = 1.0 - min(decay, (1.0 + count) / (10.0 + count))
        for a, c in zip(averaged, current):
            if a.is_floating_point():
                a.lerp_(c, weight)
            else:
                a.copy_(c)  # counters

    return average


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event, so that no step is cut in two; the second one ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def request(kind: int, frame: Any) -> None:
        stop.set()
        signal.signal(kind, before[signal.Signals(kind)])

    for kind in kinds:
        signal.signal(kind, request)
    try:
        yield stop
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Only what a checkpoint may hold: numbers, strings, lists; a scheduler's own functions are rebuilt."""
    allowed = (int, float, str, bool, list, tuple, dict, type(None), Tensor)
    return {key: value for key, value in state.items() if isinstance(value, allowed)}
