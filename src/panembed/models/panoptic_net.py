"""A semantic-segmentation network with two heads (Zachow 2022, section 3.1), or three."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
import torch
from timm.models import build_model_with_cfg
from torch import Tensor, nn

from panembed.errors import SettingsError
from panembed.inference.own_code import is_own
from panembed.models.own_network import Architecture, own_network

_LEAST_FOR_SCSE = 16
"""Channels of a decoder block with scSE attention in segmentation_models_pytorch."""

_HEADS_OWN = ("activation", "aux_params")
"""Arguments about the head that segmentation_models_pytorch would make; this network has its own."""

_TIMM_LOADING = {
    name for loader in (timm.create_model, build_model_with_cfg) for name in inspect.signature(loader).parameters
}
"""Arguments that timm keeps for itself, such as checkpoint_path; all others go to the encoder's class."""

SeedHead = Literal["parallel", "series"]


class PanopticNet(nn.Module):
    """Encoder and decoder as a black box, then a class head and an embedding head side by side.

    Each head is one 1x1 convolution on the decoder's D-channel map (followed by the architecture's own upsampling
    where it has one). Built with random weights; `panembed.models.encoder_weights` loads others.

    Args:
        num_classes: C.
        embedding_dim: E.
        architecture: any of segmentation_models_pytorch: Unet, UnetPlusPlus, FPN, DeepLabV3Plus, ...; or a network of
            one's own, as `panembed.models.own_network.own_network` takes it: it gives the map of D channels, or class
            scores and embeddings, in which case there are no heads here.
        encoder: encoder name there, such as resnet34 or tu-tf_efficientnet_lite0.
        attention: "scse" puts concurrent spatial and channel squeeze-and-excitation (Roy, Navab and Wachinger 2018)
            into every decoder block, for the architectures that have it (Unet, UnetPlusPlus); None has none.
        decoder_channels: channels of the decoder blocks, coarse to fine; None takes the architecture's own.
        coordinates: feed x and y of each pixel, -1..1, as two more input channels.
        anchor_tau: add pixel position / tau to the first two embedding dimensions, so that the network learns offsets
            and equal-looking objects far apart differ from the start; in pixels of the input. None leaves it out.
        seed_head: a third head, of two channels: the log of how sharply a pixel's object is bounded in embedding space,
            and how good a centre of an object the pixel is (Neven et al. 2019). "parallel" puts it beside the others;
            with "series" a 3x3 convolution makes features for it, and the embedding head is given these features
            too. None has no such head.
        density: the seed head has a third channel, behind a 3x3 convolution of its own: log of how much of an object
            each pixel is, so that its exponential sums to the number of objects (`panembed.losses.density`).
        detail_channels: a 3x3 convolution makes this many features of the image itself, at its full resolution, and
            what they and the decoder's map tell together is added to that map before the heads. Most encoders halve
            the image at once, so the decoder alone draws outlines from half the resolution. For architectures whose
            decoder ends at full resolution (Unet, UnetPlusPlus, MAnet, Linknet). None leaves it out.
        freeze_encoder: the encoder's weights and batch-norm statistics stay as they are.
        options: further arguments of the architecture.

    Raises:
        ModelError: a network of one's own whose module is not allowed.
        SettingsError: an architecture, encoder or option that segmentation_models_pytorch doesn't take, or options that
            don't go together.

    >>> net = PanopticNet(2, 4, encoder="resnet18").eval()
    >>> logits, embeddings = net(torch.zeros(1, 3, 64, 96))
    >>> tuple(logits.shape), tuple(embeddings.shape)
    ((1, 2, 64, 96), (1, 4, 64, 96))
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int = 16,
        *,
        architecture: Architecture = "Unet",
        encoder: str = "resnet34",
        attention: str | None = None,
        decoder_channels: tuple[int, ...] | None = None,
        coordinates: bool = False,
        anchor_tau: float | None = None,
        seed_head: SeedHead | None = None,
        density: bool = False,
        detail_channels: int | None = None,
        freeze_encoder: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if anchor_tau is not None and embedding_dim < 2:
            raise SettingsError(f"model.embedding_dim: anchored embeddings need at least 2, found {embedding_dim}")
        in_channels = 5 if coordinates else 3
        width: int | None
        self.upsampling: nn.Module
        if isinstance(architecture, str) and not is_own(architecture):
            self.encoder, self.decoder, self.upsampling, width = _smp_network(
                architecture, encoder, attention, decoder_channels, in_channels, options or {}
            )
        else:
            if attention is not None or decoder_channels is not None:
                raise SettingsError(
                    "model: attention and decoder_channels have no effect on a network of one's own; leave them out"
                )
            own = own_network(
                architecture,
                options or {},
                num_classes=num_classes,
                embedding_dim=embedding_dim,
                in_channels=in_channels,
                seed_channels=0 if seed_head is None else 3 if density else 2,
            )
            self.encoder, self.decoder, width = own.module, nn.Identity(), own.width
            self.upsampling = nn.Identity() if own.stride == 1 else nn.UpsamplingBilinear2d(scale_factor=own.stride)
        self.coordinates = coordinates
        self.anchor_tau = anchor_tau
        self.num_classes, self.embedding_dim = num_classes, embedding_dim
        self.encoder_is_frozen = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)
        if density and seed_head is None:
            raise SettingsError("model.density joins the seed head; set model.seed_head, or leave density out")
        self.detail: DetailBranch | None = None
        self.has_heads = width is not None
        if width is None:
            if detail_channels is not None:
                raise SettingsError(
                    "model.detail_channels: the network gives class scores and embeddings itself, so there is no map "
                    "that details could join; --set model.detail_channels=null"
                )
            return
        if detail_channels is not None:
            if not isinstance(self.upsampling, nn.Identity):
                raise SettingsError(
                    f"model.detail_channels: the decoder of {architecture!r} doesn't end at the image's resolution; "
                    "expected one that does, such as 'Unet'; leave detail_channels out, or choose that"
                )
            self.detail = DetailBranch(in_channels, detail_channels, width)
        self.class_head = nn.Conv2d(width, num_classes, kernel_size=1)
        self.seed_features: nn.Module | None = None
        self.seed_head: nn.Module | None = None
        if seed_head is not None:
            self.seed_head = nn.Conv2d(width, 2, kernel_size=1)
        if seed_head == "series":
            self.seed_features = nn.Sequential(
                nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
        self.density_head: nn.Module | None = None
        if density:
            self.density_head = _density_head(width)
        embedding_width = width if self.seed_features is None else 2 * width
        self.embedding_head = nn.Conv2d(embedding_width, embedding_dim, kernel_size=1)

    def train(self, mode: bool = True) -> PanopticNet:
        """Switch to training; a frozen encoder stays in evaluation mode, so that its batch norm doesn't drift."""
        super().train(mode)
        if self.encoder_is_frozen:
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute class scores and embeddings, and seeds where there is a head for them.

        Args:
            image: Bx3xHxW floats, each channel normalised; H and W multiples of 32.

        Returns:
            BxCxHxW class scores before softmax, BxExHxW embeddings, and of a seed head Bx2xHxW: log of the sharpness,
            and score before the sigmoid; Bx3xHxW with the log of the density.
        """
        if self.coordinates:
            image = torch.cat([image, _coordinates(image)], dim=1)
        features = self.decoder(self.encoder(image))
        if not self.has_heads:
            logits, embeddings, *seeds = (output.float() for output in features)
            return logits, self._anchored(embeddings), *seeds
        if self.detail is not None:
            features = self.detail(image, features)
        with torch.autocast(image.device.type, enabled=False):
            return self._heads(features.to(self.class_head.weight.dtype))

    def _heads(self, features: Tensor) -> tuple[Tensor, ...]:
        """What `forward` returns, from the decoder's map; in the weights' precision.

        In bfloat16, with 8 bits, embeddings that are still close together would hardly part.
        """
        logits = self.upsampling(self.class_head(features))
        seeds: tuple[Tensor, ...] = ()
        if self.seed_head is not None:
            own = features if self.seed_features is None else self.seed_features(features)
            told = [self.seed_head(own)]
            if self.density_head is not None:
                told.append(self.density_head(features))
            seeds = (self.upsampling(torch.cat(told, dim=1)),)
            if self.seed_features is not None:
                features = torch.cat([features, own], dim=1)
        embeddings = self.upsampling(self.embedding_head(features))
        return logits, self._anchored(embeddings), *seeds

    def _anchored(self, embeddings: Tensor) -> Tensor:
        """Embeddings with each pixel's position added to the first two dimensions, if they are to be anchored."""
        if self.anchor_tau is None:
            return embeddings
        height, width = embeddings.shape[-2:]
        x = torch.arange(width, device=embeddings.device, dtype=torch.float32) / self.anchor_tau
        y = torch.arange(height, device=embeddings.device, dtype=torch.float32) / self.anchor_tau
        position = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
        anchored = embeddings[:, :2].float() + position
        return torch.cat([anchored, embeddings[:, 2:].float()], dim=1) if self.embedding_dim > 2 else anchored


def _smp_network(
    architecture: str,
    encoder: str,
    attention: str | None,
    decoder_channels: tuple[int, ...] | None,
    in_channels: int,
    options: Mapping[str, Any],
) -> tuple[nn.Module, nn.Module, nn.Module, int]:
    """Encoder, decoder, upsampling behind the head, and D, of a network of segmentation_models_pytorch."""
    arguments: dict[str, Any] = dict(options)
    if attention == "scse" and min(decoder_channels or (_LEAST_FOR_SCSE,)) < _LEAST_FOR_SCSE:
        raise SettingsError(
            f"model.attention scse squeezes channels {_LEAST_FOR_SCSE} to 1, so decoder blocks need as many; found "
            f"model.decoder_channels {list(decoder_channels or ())}; give more, or leave attention out"
        )
    if attention is not None:
        arguments["decoder_attention_type"] = attention
    if decoder_channels is not None:
        arguments["decoder_channels"] = tuple(decoder_channels)
        arguments.setdefault("encoder_depth", len(decoder_channels))
    _refuse_loading(encoder, arguments)
    try:
        _refuse_unused(architecture, encoder, arguments)
        network = smp.create_model(
            architecture, encoder, encoder_weights=None, in_channels=in_channels, classes=1, **arguments
        )
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise SettingsError(
            f"model: segmentation_models_pytorch can't build architecture {architecture!r} with "
            f"encoder {encoder!r} "
            f"and options {arguments}: {reason}"
        ) from error
    head = network.segmentation_head
    if not (isinstance(head, nn.Sequential) and isinstance(head[0], nn.Conv2d)):
        raise SettingsError(
            f"model.architecture: {architecture!r} has a head of its own kind and can't take two; choose another, "
            "such as 'Unet' or 'FPN'"
        )
    return network.encoder, network.decoder, head[1], head[0].in_channels


def _density_head(width: int) -> nn.Module:
    """From a decoder's map to the log of the density, at first some thousandth of an object a pixel."""
    last = nn.Conv2d(width, 1, kernel_size=1)
    assert last.bias is not None
    nn.init.constant_(last.bias, -7.0)
    features = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1, bias=False)
    between = nn.Conv2d(2 * width, width, kernel_size=1, bias=False)
    return nn.Sequential(
        features, nn.BatchNorm2d(2 * width), nn.ReLU(), between, nn.BatchNorm2d(width), nn.ReLU(), last
    )


class DetailBranch(nn.Module):
    """Adds to a decoder's map what the image shows at full resolution; at first nothing, as the last weights are 0.

    Args:
        in_channels: of the image.
        channels: features made of it.
        width: channels of the decoder's map.
    """

    def __init__(self, in_channels: int, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.joined = nn.Sequential(
            nn.Conv2d(width + channels, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.difference = nn.Conv2d(width, width, kernel_size=1)
        nn.init.zeros_(self.difference.weight)
        assert self.difference.bias is not None
        nn.init.zeros_(self.difference.bias)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """The changed map, BxDxHxW, from the image and the map BxDxHxW."""
        joined = self.joined(torch.cat([features, self.features(image)], dim=1))
        changed: Tensor = features + self.difference(joined)
        return changed


def _refuse_loading(encoder: str, arguments: Mapping[str, Any]) -> None:
    """SettingsError for what would have timm read files or the network: settings come with models of strangers."""
    if ":" in encoder or "/" in encoder:
        raise SettingsError(
            f"model.encoder: {encoder!r} is a place to load from; expected a name of segmentation_models_pytorch, such "
            "as 'resnet34'; give weights of your own as model.encoder_weights"
        )
    for name in arguments:
        if name in _TIMM_LOADING:
            raise SettingsError(
                f"model.options: {name} is about how timm loads an encoder; expected arguments of the network alone; "
                "leave it out, and give weights as model.encoder_weights"
            )


def _refuse_unused(architecture: str, encoder: str, arguments: Mapping[str, Any]) -> None:
    """TypeError for an argument that segmentation_models_pytorch would swallow; encoders of timm take others still."""
    found = smp.MODEL_ARCHITECTURES_MAPPING.get(architecture.lower())
    known = set(arguments) if found is None else set(inspect.signature(found).parameters)
    for name in arguments:
        is_decoders = name.startswith("decoder_") or not encoder.startswith("tu-")
        if name in _HEADS_OWN or (name not in known and is_decoders):
            raise TypeError(f"the architecture takes no {name}")


def _coordinates(image: Tensor) -> Tensor:
    """Bx2xHxW: x and y of each pixel's centre, from -1 to 1."""
    batch, _, height, width = image.shape
    x = (torch.arange(width, device=image.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=image.device) * 2 + 1) / height - 1
    both = torch.stack([x.expand(height, width), y[:, None].expand(height, width)]).to(image.dtype)
    return both.expand(batch, 2, height, width)
