"""One contract for every architecture, and what each option does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from panembed.errors import SettingsError
from panembed.models.panoptic_net import PanopticNet, _coordinates

OTHERS = (
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
)
SMALL = (32, 16, 16, 8, 8)


def small(num_classes: int = 2, embedding_dim: int = 4, *, seed: int = 0, **arguments: object) -> PanopticNet:
    torch.manual_seed(seed)
    arguments = {"encoder": "resnet18", "decoder_channels": SMALL, **arguments}
    return PanopticNet(num_classes, embedding_dim, **arguments)  # type: ignore[arg-type]


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", ["Unet", *(pytest.param(a, marks=pytest.mark.slow) for a in OTHERS)])
def test_contract(architecture: str) -> None:
    torch.manual_seed(0)
    net = PanopticNet(3, 5, architecture=architecture, encoder="resnet18")
    image = picture(2, 3, 128, 160)
    logits, embeddings = net(image)
    assert logits.shape == (2, 3, 128, 160)
    assert embeddings.shape == (2, 5, 128, 160)
    # Each head alone reaches the first layer of the encoder.
    first = next(net.encoder.parameters())
    for output in (logits, embeddings):
        (gradient,) = torch.autograd.grad(output.square().mean(), first, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    net.eval()
    torch.manual_seed(1)
    other = PanopticNet(3, 5, architecture=architecture, encoder="resnet18").eval()
    with torch.inference_mode():
        expected = net(image[:1])
        assert not torch.equal(other(image[:1])[0], expected[0])
        other.load_state_dict(net.state_dict())
        for ours, theirs in zip(other(image[:1]), expected):
            assert torch.equal(ours, theirs)


def test_an_architecture_with_a_head_of_its_own_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"model.*'DPT'"):
        PanopticNet(2, 4, architecture="DPT", encoder="tu-vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"architecture": "Unett"}, "'Unett'"),
        ({"encoder": "resnet19"}, "'resnet19'"),
        ({"encoder": "tu-nothing_of_the_kind"}, "'tu-nothing_of_the_kind'"),
        ({"options": {"nonsense": 1}}, "nonsense"),
        ({"options": {"classes": 7}}, "classes"),
        ({"architecture": "FPN", "attention": "scse"}, "decoder_attention_type"),
        ({"attention": "nonsense"}, "nonsense"),
        ({"attention": "scse", "decoder_channels": (32, 16, 8)}, r"squeezes channels 16 to 1.* found .*\[32, 16, 8\]"),
        ({"options": {"activation": "sigmoid"}}, "takes no activation"),
        ({"decoder_channels": (64, 32, 16, 8, 8, 8)}, r"\(64, 32, 16, 8, 8, 8\)"),
        ({"architecture": "FPN", "decoder_channels": (64, 32, 16)}, "takes no decoder_channels"),
        ({"options": {"encoder_depth": 4}}, "decoder_channels"),
        ({"architecture": "FPN", "detail_channels": 8}, r"model\.detail_channels.*'FPN'.*such as 'Unet'"),
        ({"anchor_tau": 8.0, "embedding_dim": 1}, r"model\.embedding_dim.*at least 2, found 1"),
    ],
)
def test_names_that_do_not_exist(arguments: dict, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        PanopticNet(2, **{"embedding_dim": 4, "encoder": "resnet18", **arguments})


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_as_it_is(freeze: bool) -> None:
    net = small(freeze_encoder=freeze).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    logits, embeddings = net(picture(2, 3, 64, 64))
    (logits.square().mean() + embeddings.square().mean()).backward()
    optimizer.step()
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    of_encoder = {key for key in changed if key.startswith("encoder.")}
    if freeze:
        assert not of_encoder
    else:
        # Weights, and batch-norm statistics.
        assert "encoder.conv1.weight" in of_encoder
        assert "encoder.bn1.running_mean" in of_encoder
    assert {"class_head.weight", "embedding_head.weight"} < changed
    assert any(key.startswith("decoder.") and key.endswith("running_var") for key in changed)
    assert net.training
    assert net.encoder.training is not freeze
    net.eval()
    assert not net.decoder.training
    assert net.train() is net
    assert net.encoder.training is not freeze


def test_scse_is_in_every_decoder_block() -> None:
    def modules(net: PanopticNet) -> int:
        return sum(type(module).__name__ == "SCSEModule" for module in net.modules())

    assert modules(small()) == 0
    # Before and after the convolutions of each of the five blocks.
    net = small(attention="scse", decoder_channels=(32, 32, 16, 16, 16))
    assert modules(net) == 10
    assert net(picture(1, 3, 64, 64))[0].shape == (1, 2, 64, 64)


def test_coordinates_are_two_more_channels() -> None:
    net = small(coordinates=True).eval()
    assert net.encoder.conv1.in_channels == 5
    assert net(picture(1, 3, 64, 96))[1].shape == (1, 4, 64, 96)
    both = _coordinates(torch.zeros(2, 3, 2, 4))
    assert both.shape == (2, 2, 2, 4)
    assert both[1, 0].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2
    assert both[1, 1].tolist() == [[-0.5] * 4, [0.5] * 4]


@pytest.mark.parametrize("tau", [1.0, 8.0])
def test_an_anchor_adds_position_over_tau(tau: float) -> None:
    image = picture(2, 3, 64, 96)
    with torch.inference_mode():
        logits, plain = small().eval()(image)
        anchored_logits, anchored = small(anchor_tau=tau).eval()(image)
    assert torch.equal(logits, anchored_logits)
    assert torch.equal(plain[:, 2:], anchored[:, 2:])
    added = (anchored - plain)[:, :2]
    x, y = torch.arange(96.0), torch.arange(64.0)
    assert torch.allclose(added[:, 0], (x / tau).expand(2, 64, 96), atol=1e-4)
    assert torch.allclose(added[:, 1], (y / tau)[:, None].expand(2, 64, 96), atol=1e-4)


def test_options_are_taken() -> None:
    net = PanopticNet(2, 4, architecture="FPN", encoder="resnet18", options={"decoder_segmentation_channels": 64})
    assert net.class_head.in_channels == 64
    assert PanopticNet(2, 4, architecture="fpn", encoder="resnet18").class_head.in_channels == 128


def test_options_reach_the_encoders_of_timm() -> None:
    net = PanopticNet(2, 4, encoder="tu-tf_efficientnet_lite0", options={"drop_path_rate": 0.2})
    assert any(getattr(module, "drop_prob", 0) > 0 for module in net.encoder.modules())


@pytest.mark.parametrize("encoder", ["tu-tf_efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize(
    "name",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "cache_dir"],
)
def test_options_that_would_load_something_are_refused(tmp_path: Path, encoder: str, name: str) -> None:
    (tmp_path / "evil.pth").write_bytes(b"no pickle")
    with pytest.raises(SettingsError, match=rf"model\.options: {name} is about how timm loads"):
        PanopticNet(2, 4, encoder=encoder, options={name: str(tmp_path / "evil.pth")})


@pytest.mark.parametrize("encoder", ["tu-hf-hub:x/y", "tu-hf_hub:x/y", "tu-local-dir:folder", "tu-x/y", "hf-hub:x"])
def test_encoders_that_are_places_are_refused(encoder: str) -> None:
    with pytest.raises(SettingsError, match=rf"model\.encoder: '{encoder}' is a place to load from"):
        PanopticNet(2, 4, encoder=encoder)


def test_decoder_channels_are_taken() -> None:
    net = small(decoder_channels=(24, 12, 6))
    assert net.class_head.in_channels == net.embedding_head.in_channels == 6
    assert net(picture(1, 3, 64, 64))[0].shape == (1, 2, 64, 64)


def test_heads_are_single_1x1_convolutions() -> None:
    net = small(7, 9)
    assert net.class_head.weight.shape == (7, 8, 1, 1)
    assert net.embedding_head.weight.shape == (9, 8, 1, 1)


@pytest.mark.parametrize("seed_head", ["parallel", "series"])
def test_seed_head_gives_a_third_output(seed_head):
    net = PanopticNet(2, 4, encoder="resnet18", seed_head=seed_head).eval()
    _logits, embeddings, seeds = net(torch.zeros(1, 3, 64, 96))
    assert tuple(seeds.shape) == (1, 2, 64, 96)
    assert tuple(embeddings.shape) == (1, 4, 64, 96)
    # In series, what the seeds are made of must reach the embeddings; side by side it must not.
    gradient = torch.autograd.grad(embeddings.sum(), list(net.parameters()), allow_unused=True)
    reached = {name for (name, _), g in zip(net.named_parameters(), gradient) if g is not None}
    assert ("seed_features.0.weight" in reached) == (seed_head == "series")
    assert not any(name.startswith("seed_head") for name in reached)


def test_density_is_a_third_channel_of_the_seeds() -> None:
    net = small(seed_head="parallel", density=True).eval()
    _logits, _embeddings, seeds = net(torch.zeros(1, 3, 64, 96))
    assert tuple(seeds.shape) == (1, 3, 64, 96)
    with pytest.raises(SettingsError, match=r"model\.density joins the seed head"):
        small(density=True)


@pytest.mark.parametrize("anchor_tau", [None, 16.0])
def test_in_bfloat16_the_heads_still_tell_neighbours_apart(anchor_tau: float | None) -> None:
    """8 bits would give embeddings that lie close together the same few values."""
    net = small(seed_head="series", density=True, anchor_tau=anchor_tau).eval()
    image = picture(1, 3, 64, 64)
    with torch.inference_mode():
        exact = net(image)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(image)
    for output, expected in zip(outputs, exact, strict=True):
        assert output.dtype == torch.float32
        assert (output != output.bfloat16()).double().mean() > 0.5
        assert (output - expected).abs().max() < 0.05 * (expected.max() - expected.min())


@pytest.mark.parametrize("coordinates", [False, True])
def test_detail_changes_nothing_at_first_and_then_sees_single_pixels(coordinates: bool) -> None:
    plain = small(coordinates=coordinates).eval()
    net = small(coordinates=coordinates, detail_channels=8).eval()
    missing = net.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys
    assert all(name.startswith("detail.") for name in missing.missing_keys)
    image = picture(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(net(image), plain(image)):
            assert torch.equal(ours, theirs)
    # What it adds comes from the 5x5 pixels around: two 3x3 convolutions.
    net.zero_grad()
    torch.nn.init.ones_(net.detail.difference.weight)
    image.requires_grad_()
    features = torch.rand(1, SMALL[-1], 64, 64)
    net.detail(image if not coordinates else torch.cat([image, _coordinates(image)], 1), features)[
        0, :, 32, 32
    ].sum().backward()
    reached = image.grad[0].abs().amax(0).nonzero()
    assert reached.min(0).values.tolist() == [30, 30]
    assert reached.max(0).values.tolist() == [34, 34]
