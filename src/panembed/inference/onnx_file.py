"""A network in an ONNX file, checked before anything runs it: the file may be a stranger's.

There are two kinds. FILE.onnx of `panembed export` holds everything; its metadata have what a model folder's
config.json says. `model.onnx` in a model folder is the graph alone: its weights are those of model.safetensors beside
it, named by place and length, as ONNX's external data. No path in a file is ever followed: the weights are read here,
from that one file, and handed over in memory.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from panembed.errors import ModelError, shown
from panembed.inference.onnx_messages import EXTERNAL, FLOAT, FLOAT16, INT64, ITEM_BYTES, Model, Tensor
from panembed.io.atomic import atomic_path

GRAPH: Final = "model.onnx"
"""The graph's file in a model folder."""

WEIGHTS: Final = "model.safetensors"

CONFIG_KEY: Final = "panembed.config"
"""In the metadata of FILE.onnx: what config.json of a model folder holds, as JSON."""

NETWORK_KEY: Final = "panembed.network"
"""In the metadata of every file: the settings of the section `model`, as JSON, which the network was built with."""

INPUT: Final = "image"
OUTPUTS: Final = ("classes", "embeddings", "seeds")
"""Names of a network's input and outputs; not every network has seeds."""

_MAX_BYTES = 2**31 - 1
"""Protocol buffers can't be larger."""

_MAX_WEIGHTS = 1 << 32
_MAX_HEADER = 1 << 24
_MAX_DIMENSIONS = 16
_DTYPES = {"F32": FLOAT, "F16": FLOAT16, "I64": INT64}

_AGAIN = "copy the file again"


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready for ONNX Runtime.

    Attributes:
        graph: an ONNX model, as bytes.
        weights: content of model.safetensors, which the graph points into; None where the graph holds them.
        source: the file that errors name.
    """

    graph: bytes
    weights: bytes | None
    source: Path


def read_model(path: Path) -> Any:
    """Parse an ONNX file, and refuse what our networks never hold.

    Returns:
        A `ModelProto` without unknown fields.

    Raises:
        ModelError: no such file, no ONNX file or a damaged one, or it holds functions, operators that aren't ONNX's
            own, branches, loops, or tensors of another size than they say.
    """
    data = _read(path, _MAX_BYTES)
    try:
        model = Model.FromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{path}: is no ONNX file, or is damaged; expected one that `panembed export` wrote; {_AGAIN}"
        ) from error
    known = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != known:
        raise _strange(path, "parts that are no plain network, such as functions, branches or loops")
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: holds no network; expected a file that `panembed export` wrote; {_AGAIN}")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise _strange(path, f"the operator {shown(node.op_type)} of {shown(node.domain)}")
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            raise _strange(path, f"operators of {shown(opset.domain)}")
    for tensor in _tensors(model):
        _check_tensor(path, tensor)
    return model


def _read(path: Path, most: int) -> bytes:
    """Content of a file of at most so many bytes."""
    try:
        if not path.is_file():
            # Or something that is no file but a device, of which one may read for ever.
            raise ModelError(f"{path}: no such file; {_AGAIN}")
        if (size := path.stat().st_size) > most:
            raise ModelError(f"{path}: has {size:,} bytes; expected at most {most:,}, which no network here reaches")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}); {_AGAIN}") from error


def _strange(path: Path, found: str) -> ModelError:
    return ModelError(f"{path}: holds {found}; expected ONNX's own operators alone, as `panembed export` writes them")


def _tensors(model: Any) -> Iterable[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _check_tensor(path: Path, tensor: Any) -> None:
    name = shown(tensor.name)
    dims, item = list(tensor.dims), ITEM_BYTES.get(tensor.data_type)
    if item is None or len(dims) > _MAX_DIMENSIONS or any(size < 0 for size in dims):
        raise ModelError(f"{path}: the tensor {name} has an unknown type or shape; {_AGAIN}")
    expected = math.prod(dims) * item
    if tensor.data_location == EXTERNAL or tensor.external_data:
        return  # see `check_external`
    if len(tensor.raw_data) != expected:
        raise ModelError(
            f"{path}: the tensor {name} has {len(tensor.raw_data):,} bytes; its shape asks for {expected:,}; {_AGAIN}"
        )


def _external(model: Any) -> list[Any]:
    return [tensor for tensor in _tensors(model) if tensor.data_location == EXTERNAL or tensor.external_data]


def metadata(model: Any) -> dict[str, str]:
    """The texts that a file has besides its network."""
    return {entry.key: entry.value for entry in model.metadata_props}


def read_settings(path: Path, model: Any, key: str) -> Any:
    """JSON of a file's metadata.

    Raises:
        ModelError: there is none, as panembed didn't write the file, or it is damaged.
    """
    text = metadata(model).get(key)
    if text is None:
        raise ModelError(
            f"{path}: says nothing of panembed; expected a file that `panembed export` wrote, with its classes and "
            "settings; export the model again"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its metadata {key} are damaged; {_AGAIN}") from error


def change_metadata(path: Path, key: str, value: str) -> None:
    """Write a file anew with another text in its metadata; the network stays.

    Raises:
        ModelError: as `read_model`.
        OutputError: the file can't be written.
    """
    model = read_model(path)
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def exported_network(path: Path, *, channels: Mapping[str, int]) -> Network:
    """The network of FILE.onnx.

    Args:
        path: of the file.
        channels: of the outputs that there should be.

    Raises:
        ModelError: as `read_model`; it has weights in other files, or another network than its settings tell.
    """
    model = read_model(path)
    if outside := _external(model):
        raise ModelError(
            f"{path}: the tensor {shown(outside[0].name)} lies in another file; expected one file with everything in "
            "it, as `panembed export --output` writes it"
        )
    _check_interface(path, model, channels)
    return Network(model.SerializeToString(), None, path)


def network_beside(
    folder: Path, *, channels: Mapping[str, int], network: Mapping[str, Any], graph: Path | None = None
) -> Network:
    """The network of a model folder with model.onnx and the weights beside it.

    Args:
        folder: that holds both files.
        channels: of the outputs that there should be.
        network: settings that it should be built with, those of config.json.
        graph: another file instead of model.onnx.

    Raises:
        ModelError: as `read_model`; the graph is of another network than the folder's, or the weights are damaged.
    """
    path, weights = graph or folder / GRAPH, folder / WEIGHTS
    for file in (path, weights):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{file}: is a link that leads out of the model folder; copy the file itself there")
    model = read_model(path)
    if read_settings(path, model, NETWORK_KEY) != network:
        raise _outdated(path, folder)
    data = _read(weights, _MAX_WEIGHTS)
    places = weight_places(weights, data)
    inside = {tensor.name for tensor in model.graph.initializer}
    for tensor in _external(model):
        # In order, and all of them: of two places for one tensor, ONNX Runtime may take the other one.
        found = [(entry.key, entry.value) for entry in tensor.external_data]
        locations = [value for key, value in found if key == "location"]
        if tensor.name not in inside or locations != [WEIGHTS]:
            raise ModelError(
                f"{path}: the tensor {shown(tensor.name)} lies in {shown(locations)}; expected weights of {WEIGHTS} in "
                "the same folder alone; export the model again"
            )
        place = places.get(tensor.name)
        if place is None or found != list(external_place(place).items()) or not _is_like(tensor, place):
            raise _outdated(path, folder)
    _check_interface(path, model, channels)
    return Network(model.SerializeToString(), data, path)


def _outdated(path: Path, folder: Path) -> ModelError:
    return ModelError(
        f"{path}: is of another network than the weights and settings beside it; write it anew with "
        f"`panembed export --model {folder} --overwrite`, or delete it"
    )


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """Where model.safetensors has a tensor: number of its ONNX type, shape, first byte in the file, bytes."""

    data_type: int
    shape: tuple[int, ...]
    offset: int
    length: int


def weight_places(path: Path, data: bytes) -> dict[str, WeightPlace]:
    """Where each tensor lies in a safetensors file, whose header is JSON behind its length in 8 bytes.

    Args:
        path: which errors name.
        data: content of the file.

    Raises:
        ModelError: damaged.
    """
    damaged = ModelError(f"{path}: damaged or not readable; copy the model folder again")
    (size,) = struct.unpack("<Q", data[:8]) if len(data) >= 8 else (0,)
    if not 0 < size <= min(_MAX_HEADER, len(data) - 8):
        raise damaged
    places = {}
    try:
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            (begin, end), shape = entry["data_offsets"], tuple(entry["shape"])
            kind = _DTYPES.get(entry["dtype"], 0)
            if not 0 <= begin <= end <= len(data) - 8 - size or any(part < 0 for part in shape):
                raise damaged
            if kind and math.prod(shape) * ITEM_BYTES[kind] != end - begin:
                raise damaged
            places[name] = WeightPlace(kind, shape, 8 + size + begin, end - begin)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged from error
    if sum(place.length for place in places.values()) != len(data) - 8 - size:
        raise damaged
    return places


def external_place(place: WeightPlace) -> dict[str, str]:
    """As ONNX's external data name a place."""
    return {"location": WEIGHTS, "offset": str(place.offset), "length": str(place.length)}


def external_tensor(name: str, place: WeightPlace) -> Any:
    """A tensor whose data are those of model.safetensors."""
    tensor = Tensor(name=name, data_type=place.data_type, dims=place.shape, data_location=EXTERNAL)
    for key, value in external_place(place).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _is_like(tensor: Any, place: WeightPlace) -> bool:
    return bool(tensor.data_type == place.data_type and tuple(tensor.dims) == place.shape)


def _check_interface(path: Path, model: Any, channels: Mapping[str, int]) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _shape(value) for value in model.graph.input if value.name not in weights}
    outputs = {value.name: _shape(value) for value in model.graph.output}
    fits = list(inputs) == [INPUT] and _has_channels(inputs[INPUT], 3) and list(outputs) == list(channels)
    if not fits or not all(_has_channels(outputs[name], number) for name, number in channels.items()):
        raise ModelError(
            f"{path}: takes {shown(inputs)} and gives {shown(outputs)}; expected {INPUT} with 3 channels, and "
            f"{', '.join(f'{name} with {number}' for name, number in channels.items())}, as its settings tell; "
            "export the model again"
        )


def _shape(value: Any) -> list[int]:
    """Of float32, 0 for sizes that vary; nothing for other types."""
    kind = value.type.tensor_type
    return [dim.dim_value for dim in kind.shape.dim] if kind.elem_type == FLOAT else []


def _has_channels(shape: list[int], number: int) -> bool:
    return len(shape) == 4 and shape[1] == number and shape[0] == shape[2] == shape[3] == 0
