"""Weights of a model folder: model.safetensors, beside what `panembed.inference.model_config` reads and writes."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from panembed.errors import ModelError
from panembed.inference.model_config import CONFIG, WEIGHTS, ModelConfig, write_config
from panembed.io.atomic import atomic_path


def save_model(folder: Path, network: nn.Module, config: ModelConfig, *, half: bool = False) -> None:
    """Write a model folder; each file whole or not at all.

    Args:
        folder: to write to; it must exist.
        network: whose weights are kept.
        config: what config.json is to hold.
        half: store weights of two and more dimensions as float16, for half the size. Biases, scales, and all that isn't
            trained, such as the running mean and variance of batch norm, stay exact.

    Raises:
        OutputError: the folder can't be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if half:
        for name, weight in network.named_parameters():
            if weight.ndim >= 2:
                state[name] = _half(state[name])
    is_first = not (folder / WEIGHTS).exists()
    with atomic_path(folder / WEIGHTS) as temporary:
        # Its own writer would hide whether the disk is full.
        temporary.write_bytes(save(state))
    try:
        write_config(folder, config)
    except BaseException:
        # Weights that nothing describes are no model.
        if is_first:
            for name in (WEIGHTS, CONFIG):
                (folder / name).unlink(missing_ok=True)
        raise


def _half(weight: Tensor) -> Tensor:
    """As float16; as it is where that loses more than rounding to 11 bits does: out of range, tiny, or no numbers."""
    half = weight.half()
    # False where both are 0, infinite or NaN.
    return half if (half.float() - weight).norm() < 1e-3 * weight.norm() else weight


def load_weights(folder: str | os.PathLike[str], network: nn.Module) -> None:
    """Fill a network with a model folder's weights; it keeps its own precision, whatever they are stored in.

    Raises:
        ModelError: missing, damaged, or of another network.
    """
    try:
        network.load_state_dict(_read_weights(folder))
    except RuntimeError as error:
        raise ModelError(
            f"{Path(folder) / WEIGHTS}: the weights are not of the network that {CONFIG} describes; copy both again"
        ) from error


def load_fitting_weights(folder: str | os.PathLike[str], network: nn.Module) -> list[str]:
    """Fill a network with those weights of a model folder that have its names and shapes, to train on from there.

    Returns:
        Names of the network's weights that were not there, such as heads of other classes; they stay as they are.

    Raises:
        ModelError: missing or damaged weights, or none that fits the encoder.
    """
    state = _read_weights(folder)
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    # Vectors of batch norm may fit any network.
    if not any(name.startswith("encoder.") and value.ndim > 1 for name, value in fitting.items()):
        raise ModelError(
            f"{Path(folder) / WEIGHTS}: no weight fits the encoder of the settings; take the encoder that the model has"
        )
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _read_weights(folder: str | os.PathLike[str]) -> dict[str, Tensor]:
    path = Path(folder) / WEIGHTS
    try:
        weights: dict[str, Tensor] = load_file(path)
        return weights
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {WEIGHTS} there; copy the model folder again") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or not readable; copy the model folder again") from error
