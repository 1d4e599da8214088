"""The discriminative loss against the two forms that public ports use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.timing import Section, medians, ms
from panembed.losses.discriminative import discriminative_loss

BATCH, DIMS, SIZE = 4, 16, 256


def one_hot_loss(embeddings: Tensor, instance: Tensor) -> Tensor:
    """As public ports do it: every pixel's embedding expanded to every instance."""
    total = embeddings.new_zeros(())
    for x, ids in zip(embeddings.flatten(2), instance.flatten(1)):
        mask = torch.nn.functional.one_hot(ids - 1).T.float()  # K x P
        k, count = len(mask), mask.sum(1)
        masked = x[None] * mask[:, None]  # K x E x P
        mean = masked.sum(2) / count[:, None]
        distance = (torch.norm(x[None] - mean[..., None], dim=1) - 0.5).clamp_min(0) ** 2
        pull = ((distance * mask).sum(1) / count).mean()
        total = total + pull + _push_and_origin(mean, k)
    return total / len(embeddings)


def index_add_loss(embeddings: Tensor, instance: Tensor) -> Tensor:
    """Grouped sums by index_add_, gradients by autograd."""
    total = embeddings.new_zeros(())
    for x, ids in zip(embeddings.flatten(2), instance.flatten(1)):
        x, ids = x.T, ids - 1
        k = int(ids.max()) + 1
        count = torch.bincount(ids, minlength=k).float()
        mean = x.new_zeros(k, x.shape[1]).index_add_(0, ids, x) / count[:, None]
        distance = (torch.norm(x - mean[ids], dim=1) - 0.5).clamp_min(0) ** 2
        pull = (x.new_zeros(k).index_add_(0, ids, distance) / count).mean()
        total = total + pull + _push_and_origin(mean, k)
    return total / len(embeddings)


def _push_and_origin(mean: Tensor, k: int) -> Tensor:
    gap = (3.0 - torch.norm(mean[:, None] - mean[None] + torch.eye(k)[..., None] * 1e6, dim=2)).clamp_min(0) ** 2
    return gap.sum() / max(1, k * (k - 1)) + 0.001 * torch.norm(mean, dim=1).mean()


def case(num_objects: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Channels-last embeddings as a network gives them, and blocks of objects that cover all pixels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, DIMS, size, size, generator=generator).contiguous(memory_format=torch.channels_last)
    side = -(-int(num_objects**0.5 + 0.999) // 1)
    block = torch.arange(size) * side // size
    ids = (block[:, None] * side + block) % num_objects + 1
    return x.requires_grad_(), ids.expand(BATCH, size, size).contiguous()


def run(images: Path) -> Section:
    section = Section(
        "Discriminative loss, forward and backward",
        f"{BATCH} x {DIMS} x {SIZE} x {SIZE} float32 embeddings, all pixels labelled, K objects an image. *One-hot* expands every "
        "pixel to every object, as public ports do; *index_add_* groups by index and leaves gradients to autograd. The picture is measured apart; index_add_ varies by a third from one time to the next, so its bar is met or missed by chance.",
        ["K", "panembed, ms", "index_add_, ms", "ratio", "one-hot, ms", "ratio"],
    )
    ours: dict[int, float] = {}
    ratios: dict[int, tuple[float, float]] = {}
    for k in (5, 20, 60):
        x, ids = case(k)

        def step(loss, x=x, ids=ids):
            x.grad = None
            loss(x, ids).backward()

        value, reference = discriminative_loss(x, ids), index_add_loss(x, ids)
        assert abs(value.item() - reference.item()) < 1e-4 * abs(reference.item())
        found = medians(
            {
                "ours": lambda: step(discriminative_loss),
                "index": lambda: step(index_add_loss),
                "hot": lambda: step(one_hot_loss),
            },
            rounds=5 if k < 60 else 3,
        )
        ours[k], ratios[k] = found["ours"], (found["index"] / found["ours"], found["hot"] / found["ours"])
        section.rows.append(
            [
                str(k),
                ms(found["ours"]),
                ms(found["index"]),
                f"{ratios[k][0]:.1f}",
                ms(found["hot"]),
                f"{ratios[k][1]:.0f}",
            ]
        )
    tensor = BATCH * DIMS * 1024 * 1024 * 4
    extra = int(
        subprocess.run([sys.executable, "-m", "benchmarks.loss"], capture_output=True, text=True, check=True).stdout
    )
    section.bars += [
        ("K = 20 at least 3 times faster than index_add_", f"{ratios[20][0]:.1f} times", ratios[20][0] >= 3),
        ("K = 20 at least 60 times faster than one-hot", f"{ratios[20][1]:.0f} times", ratios[20][1] >= 60),
        ("K = 60 at most 2 times K = 5", f"{ours[60] / ours[5]:.2f} times", ours[60] <= 2 * ours[5]),
        (
            "extra memory at most 3 times the embeddings (the process's peak over what it held before, gradient included)",
            f"{extra / tensor:.1f} times {tensor / 2**20:.0f} MiB",
            extra <= 3 * tensor,
        ),
    ]
    difference = _curve_difference()
    section.bars.append(
        ("same-seed loss curves agree to 1e-4", f"largest relative difference {difference:.1e}", difference <= 1e-4)
    )
    _growth(images / "bench_loss.png")
    section.plots.append("bench_loss.png")
    return section


def _curve_difference(steps: int = 30) -> float:
    """Largest relative difference between the loss curves of a small network trained with either form."""
    _, ids = case(20, 64)
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(int(ids.max()) + 1, 3, generator=generator)
    images = colours[ids].permute(0, 3, 1, 2) + 0.1 * torch.randn(BATCH, 3, 64, 64, generator=generator)

    def curve(loss) -> Tensor:
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, DIMS, 3, padding=1)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        values = []
        for _ in range(steps):
            value = loss(network(images), ids)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.detach())
        return torch.stack(values)

    ours, plain = curve(discriminative_loss), curve(index_add_loss)
    return float(((ours - plain).abs() / plain).max())


def _growth(path: Path) -> None:
    def seconds(k: int, size: int, loss=discriminative_loss) -> float:
        x, ids = case(k, size)
        return medians({"": lambda: loss(x, ids).backward()}, rounds=3)[""]

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    ks, sizes = (2, 5, 10, 20, 40, 80, 160), (64, 128, 256, 384, 512)
    left.plot(ks, [1000 * seconds(k, SIZE) for k in ks], "o-", label="panembed")
    left.plot(ks, [1000 * seconds(k, SIZE, index_add_loss) for k in ks], "s--", label="index_add_")
    left.set(xlabel="objects per image", ylabel="ms", ylim=(0, None), title="Loss against K")
    left.legend()
    right.plot([BATCH * s * s for s in sizes], [1000 * seconds(20, s) for s in sizes], "o-")
    right.set(xlabel="labelled pixels in the batch", ylabel="ms", ylim=(0, None), title="Loss against pixels, K = 20")
    figure.savefig(path, dpi=120)


def _extra_memory() -> int:
    """Bytes that the process needs on top during the loss and its backward pass, for a 256 MiB tensor."""
    x, ids = case(20, 1024)
    warm, warm_ids = case(2, 32)
    discriminative_loss(warm, warm_ids).backward()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of making the tensors
    discriminative_loss(x, ids).backward()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    """Bytes in memory now (VmRSS) or at most so far (VmHWM); Linux."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(name + r":\s+(\d+)", status)[1])


if __name__ == "__main__":
    print(_extra_memory())
