"""A whole training step against the bare network, and an epoch against the plain way."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.loss import index_add_loss
from benchmarks.timing import Section, medians, ms
from panembed.assembly import build
from panembed.assembly.trainer import trainer as build_trainer
from panembed.datasets.samples import sample_nuclei
from panembed.datasets.splits import choose_split
from panembed.losses.discriminative import discriminative_loss
from panembed.models.panoptic_net import PanopticNet
from panembed.settings.schema import Settings


def run() -> Section:
    section = Section(
        "Training",
        "Batches of 4 at 256x256. *Whole step*: image from the cache, augmentation, network, loss, optimiser, average of weights. "
        "*Bare network*: forward, backward of the sum of its outputs, and optimiser, on a fixed batch in the same precision and "
        "memory layout. *Plain epoch*: float32, NCHW, autograd `index_add_` loss, image files read and augmented in the loop.",
        ["network", "whole step, ms", "bare network, ms", "ratio", "plain step, ms", "ratio"],
    )
    for name, overrides in (
        ("U-Net, EfficientNet-Lite0", ["model.encoder=tu-tf_efficientnet_lite0"]),
        (
            "U-Net, ResNet-34, scSE, fine-tuned",
            ["model.encoder=resnet34", "model.encoder_weights=none", "model.attention=scse"],
        ),
    ):
        whole, bare, plain = _steps(overrides)
        section.rows.append([name, ms(whole), ms(bare), f"{whole / bare:.2f}", ms(plain), f"{plain / whole:.2f}"])
        section.bars += [
            (
                f"{name}: whole step at most 1.25 times the bare network",
                f"{whole / bare:.2f} times",
                whole <= 1.25 * bare,
            ),
            (f"{name}: 2.5 times faster than the plain way", f"{plain / whole:.2f} times", plain >= 2.5 * whole),
        ]
    step = _loss_share()
    section.bars.append(("loss at most 15 % of a U-Net R34 step", f"{100 * step:.1f} %", step <= 0.15))
    return section


# The discriminative loss alone, on the architecture's own decoder.
_COMMON = [
    "input.fit=native",
    "input.size=[256,256]",
    "input.normalization=image",
    "augmentation.window=null",
    "augmentation.around_objects=0",
    "augmentation.scale=[1.0,1.5]",
    "augmentation.copy_paste=0",
    "model.decoder_channels=null",
    "model.seed_head=null",
    "model.density=false",
    "model.embedding_dim=16",
    "model.anchor_tau=null",
    "loss.alpha=1",
    "loss.beta=1",
    "loss.gamma=0.001",
    "loss.soft_mask=0",
    "loss.density=0",
    "grouping.recount=null",
    "grouping.method=mean_shift",
    "augmentation.source_scale=1",
    "loss.instance_weight=1",
    "split.fractions=[0.4,0.3,0.3]",
]


def _steps(overrides: list[str]) -> tuple[float, float, float]:
    settings = Settings.load("leaf", overrides=[*_COMMON, *overrides])
    dataset = sample_nuclei()
    with tempfile.TemporaryDirectory() as folder:
        split = choose_split(dataset, **settings.split.model_dump())
        trainer = build_trainer(settings, dataset, split, Path(folder))
        batches = iter(trainer.loader)

        def whole() -> None:
            nonlocal batches
            try:
                batch = next(batches)
            except StopIteration:
                batches = iter(trainer.loader)
                batch = next(batches)
            trainer._train_step(batch)

        network = build.network(settings, dataset.label_set, pretrained=False).train()
        network = network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters())
        image = next(iter(trainer.loader)).image

        def bare() -> None:
            with trainer.accelerator.autocast():
                scores, embeddings = network(image)
            (scores.float().mean() + embeddings.float().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()

        plain_network = build.network(settings, dataset.label_set, pretrained=False).train()
        plain_optimizer = torch.optim.AdamW(plain_network.parameters())
        ids = iter(split.train * 100)

        def plain() -> None:
            from panembed.training.transforms import TrainingSet, collate

            augmentation, preparation = trainer.examples.augmentation, trainer.examples.preparation
            examples = [
                TrainingSet(dataset, (next(ids),), preparation, augmentation, source_scale=1.5)[0, 0] for _ in range(4)
            ]
            batch = collate(examples)
            scores, embeddings = plain_network(batch.image.contiguous(memory_format=torch.contiguous_format))
            semantic = torch.nn.functional.cross_entropy(scores, batch.semantic, ignore_index=255)
            objects = batch.instance.long() + 1  # background too, so that no id is missing
            _, objects = torch.unique(objects, return_inverse=True)
            (semantic + index_add_loss(embeddings, objects + 1)).backward()
            plain_optimizer.step()
            plain_optimizer.zero_grad()

        found = medians({"whole": whole, "bare": bare, "plain": plain}, rounds=5)
    return found["whole"], found["bare"], found["plain"]


def _loss_share() -> float:
    network = PanopticNet(2, 16).train().to(memory_format=torch.channels_last)
    image = torch.randn(4, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    from benchmarks.loss import case

    x, ids = case(20)

    def step() -> None:
        scores, embeddings = network(image)
        (scores.mean() + embeddings.mean()).backward()
        network.zero_grad()

    found = medians({"step": step, "loss": lambda: discriminative_loss(x, ids).backward()}, rounds=4)
    return found["loss"] / (found["loss"] + found["step"])
