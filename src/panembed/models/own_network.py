"""A network of one's own below or instead of the heads of `PanopticNet`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from panembed.errors import SettingsError
from panembed.inference.own_code import find

_SIDES = (64, 256, 224, 512)
"""Of the empty images that a network is tried with, until it takes one."""

Architecture = str | nn.Module | Callable[..., nn.Module]


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """A network that is none of segmentation_models_pytorch.

    Attributes:
        module: Bx3xHxW to a map BxDxH/sxW/s, or to class scores BxCxHxW and embeddings BxExHxW, perhaps with seeds.
        width: D; None where the module gives scores and embeddings itself.
        stride: s, by which the map is smaller than the image.
        seed_channels: of the seeds that it gives itself; 0 for none.
    """

    module: nn.Module
    width: int | None
    stride: int = 1
    seed_channels: int = 0


def own_network(
    architecture: Architecture,
    options: Mapping[str, Any],
    *,
    num_classes: int,
    embedding_dim: int,
    in_channels: int,
    seed_channels: int,
) -> OwnNetwork:
    """Build a network and find out what it gives.

    Args:
        architecture: `package.module:Class` of an allowed module (`panembed.inference.own_code`), a class or function
            that makes a module, or the module itself. Of the arguments below it is given those that it has names for.
        options: further arguments.
        num_classes: C.
        embedding_dim: E.
        in_channels: of the image: 3, with coordinates 5.
        seed_channels: that the seeds should have; 0 for none.

    Raises:
        ModelError: the module is not allowed.
        SettingsError: it can't be built or called, or gives something else.

    >>> own_network(nn.Conv2d(3, 8, 3, stride=2, padding=1), {}, num_classes=2, embedding_dim=4, in_channels=3,
    ...             seed_channels=0).stride
    2
    """
    named = architecture if isinstance(architecture, str) else getattr(architecture, "__qualname__", "")
    told = f"model.architecture: {named or type(architecture).__name__}"
    offered = {"num_classes": num_classes, "embedding_dim": embedding_dim}
    offered |= {"in_channels": in_channels, "seed_channels": seed_channels}
    module = architecture if isinstance(architecture, nn.Module) else _made(architecture, options, offered, told)
    if isinstance(architecture, nn.Module) and options:
        raise SettingsError(f"{told}: model.options have no effect on a network that is built already; leave them out")
    side, found = _tried(module, in_channels, told)
    if isinstance(found, Tensor):
        return OwnNetwork(module, *_map_of(found, side, told))
    expected = {"class scores": num_classes, "embeddings": embedding_dim}
    if not (isinstance(found, tuple | list) and len(found) in (2, 3) and all(isinstance(t, Tensor) for t in found)):
        kind = f"{type(found).__name__} of {len(found)}" if isinstance(found, tuple | list) else type(found).__name__
        raise SettingsError(
            f"{told} gives a {kind}; expected one map (BxDxHxW), or class scores (BxCxHxW) and embeddings (BxExHxW)"
        )
    if len(found) == 3 or seed_channels:
        expected["seeds"] = seed_channels
    if len(found) < len(expected):
        raise SettingsError(
            f"{told} gives scores and embeddings, but model.seed_head asks for {seed_channels} channels of seeds; "
            "give them third, or --set model.seed_head=null"
        )
    for tensor, (what, channels) in zip(found, expected.items()):
        if tuple(tensor.shape) != (1, channels, side, side):
            raise SettingsError(
                f"{told} gives {what} of shape {tuple(tensor.shape)} for an image of {side} x {side}; expected "
                f"{(1, channels, side, side)}"
            )
    return OwnNetwork(module, None, seed_channels=expected.get("seeds", 0))


def _made(
    architecture: str | Callable[..., nn.Module], options: Mapping[str, Any], offered: Mapping[str, int], told: str
) -> nn.Module:
    make = find(architecture) if isinstance(architecture, str) else architecture
    try:
        known = set(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        known = set()
    arguments = {key: value for key, value in offered.items() if key in known} | dict(options)
    if "in_channels" not in arguments and offered["in_channels"] != 3:
        raise SettingsError(f"{told} takes no in_channels, so it can't see coordinates; leave out model.coordinates")
    try:
        module = make(**arguments)
    except Exception as error:  # the user's code may raise anything
        raise SettingsError(
            f"{told} can't be built with {arguments} ({type(error).__name__}: {_first_line(error)})"
        ) from error
    if not isinstance(module, nn.Module):
        raise SettingsError(f"{told} makes a {type(module).__name__}; expected a torch.nn.Module")
    return module


def _tried(module: nn.Module, in_channels: int, told: str) -> tuple[int, Any]:
    """The side of the first empty image that the network takes, and what it makes of it."""
    was_training = module.training
    module.eval()
    first: Exception | None = None
    try:
        for side in _SIDES:
            try:
                with torch.no_grad():
                    return side, module(torch.zeros(1, in_channels, side, side))
            except Exception as error:
                first = first or error
    finally:
        module.train(was_training)
    assert first is not None
    raise SettingsError(
        f"{told} can't take an image of {in_channels} x {_SIDES[0]} x {_SIDES[0]} ({type(first).__name__}: "
        f"{_first_line(first)}); expected a network for Bx{in_channels}xHxW, H and W multiples of 32"
    ) from first


def _map_of(found: Tensor, side: int, told: str) -> tuple[int, int]:
    """Channels and stride of a map."""
    shape = tuple(found.shape)
    if len(shape) != 4 or shape[2] != shape[3] or side % shape[2] or not found.is_floating_point():
        raise SettingsError(
            f"{told} gives a map of shape {shape} for an image of {side} x {side}; expected 1xDxHxW, H and W the "
            "image's, or a whole part of them"
        )
    return shape[1], side // shape[2]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
