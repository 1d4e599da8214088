"""Whether settings go together: grouping with heads, a network with the size of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from panembed.errors import SettingsError
from panembed.inference.grouping import HEEDED
from panembed.inference.own_code import is_own
from panembed.settings.schema import Settings

if TYPE_CHECKING:
    from panembed.models.panoptic_net import PanopticNet


def check_size(net: PanopticNet, settings: Settings) -> None:
    """Let a network see one empty image of the size that training has, and check the size of what it gives.

    Raises:
        SettingsError: it can't take such images, or gives other pixels than they have.
    """
    import torch

    size = settings.augmentation.window or settings.input.size
    told = f"model: architecture {settings.model.architecture!r} with encoder {settings.model.encoder!r}"
    advice = "choose another, or leave out what model.options say about depth and upsampling"
    if is_own(settings.model.architecture):
        told, advice = f"model: {settings.model.architecture}", "mend the network, or take another input.size"
    was_training = net.training
    try:
        with torch.no_grad():
            outputs = net.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise SettingsError(f"{told} can't take images of {size[0]} x {size[1]} ({reason}); {advice}") from error
    finally:
        net.train(was_training)
    found = tuple(outputs[0].shape[-2:])
    if found != tuple(size):
        raise SettingsError(
            f"{told} makes {found[0]} x {found[1]} pixels of {size[0]} x {size[1]}; expected as many; {advice}"
        )


def check_heads(settings: Settings) -> None:
    """Check that grouping asks for nothing that the network has no head for.

    Raises:
        SettingsError: seed_map without a seed head, or a count by a density that there is none of.
    """
    if settings.grouping.method != "seed_map":
        return
    if settings.model.seed_head is None:
        raise SettingsError(
            "grouping.method seed_map needs a seed head, and this model has none; train one with "
            "model.seed_head=parallel, or take another method"
        )
    of_classes = [values.recount for values in settings.grouping.by_class.values()]
    if any(recount is not None for recount in (settings.grouping.recount, *of_classes)) and not settings.model.density:
        raise SettingsError(
            "grouping.recount needs a density, and this model has none; train one with model.density=true and "
            "loss.density=1, or leave recount out"
        )


def check_effect(settings: Settings, path: Sequence[str], value: Any) -> None:
    """Check that a setting is heeded by the way a trained model prepares images and groups pixels.

    Args:
        settings: with the value in its place.
        path: of its key, such as ["grouping", "bandwidth"].
        value: None passes, as it asks for nothing; so does what a mapping holds, if all of it is heeded.

    Raises:
        SettingsError: it has no effect.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_effect(settings, [*path, str(key)], part)
        return
    method, name = settings.grouping.method, ".".join(path)
    if path[0] == "grouping" and value is not None and path[-1] not in ("method", *HEEDED[method]):
        raise SettingsError(
            f"{name} has no effect with grouping.method {method}, which heeds {', '.join(HEEDED[method])}; leave it "
            "out, or set grouping.method, too"
        )
    if name == "input.size" and settings.input.fit == "native":
        raise SettingsError("input.size has no effect with input.fit native; set input.scale instead")
