"""ONNX's file format, as far as our networks need it: protocol buffers, read with Google's package.

The package `onnx` would bring some 50 MB for this. What is left out here on purpose - functions, graphs within nodes
(`If`, `Loop`), sparse tensors, training - counts as unknown when a file is read, so `panembed.inference.onnx_file` sees
it and refuses the file. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FLOAT: Final = 1
INT64: Final = 7
FLOAT16: Final = 10
"""Numbers of element types; tensors of other types are used, too, inside of graphs."""

ITEM_BYTES: Final = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
"""Bytes of an element: float, uint8, int8, uint16, int16, int32, int64, bool, float16, double, uint32, uint64."""

EXTERNAL: Final = 1
"""A tensor's data lies in another file."""

_INT, _FLOAT, _TEXT, _BYTES = "int64", "float", "string", "bytes"

# Message -> field -> number and type; a star means that the field is repeated.
SCHEMA: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "StringStringEntryProto": {"key": (1, _TEXT), "value": (2, _TEXT)},
    "OperatorSetIdProto": {"domain": (1, _TEXT), "version": (2, _INT)},
    "TensorProto": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "name": (8, _TEXT),
        "raw_data": (9, _BYTES),
        "doc_string": (12, _TEXT),
        "external_data": (13, "StringStringEntryProto*"),
        "data_location": (14, "int32"),
    },
    "AttributeProto": {
        "name": (1, _TEXT),
        "f": (2, _FLOAT),
        "i": (3, _INT),
        "s": (4, _BYTES),
        "t": (5, "TensorProto"),
        "floats": (7, "float*"),
        "ints": (8, "int64*"),
        "strings": (9, "bytes*"),
        "doc_string": (13, _TEXT),
        "type": (20, "int32"),
    },
    "NodeProto": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "name": (3, _TEXT),
        "op_type": (4, _TEXT),
        "attribute": (5, "AttributeProto*"),
        "doc_string": (6, _TEXT),
        "domain": (7, _TEXT),
    },
    "Dimension": {"dim_value": (1, _INT), "dim_param": (2, _TEXT)},
    "TensorShapeProto": {"dim": (1, "Dimension*")},
    "Tensor": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TypeProto": {"tensor_type": (1, "Tensor")},
    "ValueInfoProto": {"name": (1, _TEXT), "type": (2, "TypeProto"), "doc_string": (3, _TEXT)},
    "GraphProto": {
        "node": (1, "NodeProto*"),
        "name": (2, _TEXT),
        "initializer": (5, "TensorProto*"),
        "doc_string": (10, _TEXT),
        "input": (11, "ValueInfoProto*"),
        "output": (12, "ValueInfoProto*"),
        "value_info": (13, "ValueInfoProto*"),
    },
    "ModelProto": {
        "ir_version": (1, _INT),
        "producer_name": (2, _TEXT),
        "producer_version": (3, _TEXT),
        "domain": (4, _TEXT),
        "model_version": (5, _INT),
        "doc_string": (6, _TEXT),
        "graph": (7, "GraphProto"),
        "opset_import": (8, "OperatorSetIdProto*"),
        "metadata_props": (14, "StringStringEntryProto*"),
    },
}

_SCALARS = {"int32": 5, "int64": 3, "float": 2, "string": 9, "bytes": 12}
_REPEATED, _SINGULAR, _MESSAGE = 3, 1, 11


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="panembed_onnx.proto", package="panembed_onnx", syntax="proto2")
    for message, fields in SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            single = kind.removesuffix("*")
            field = made.field.add(name=name, number=number, label=_SINGULAR if single == kind else _REPEATED)
            field.type = _SCALARS.get(single, _MESSAGE)
            if field.type == _MESSAGE:
                field.type_name = f".panembed_onnx.{single}"
            elif single != kind and single not in ("string", "bytes"):
                field.options.packed = True
    # A pool of its own: `onnx`, if it is imported as well, has messages of these names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"panembed_onnx.{name}")) for name in SCHEMA}


_CLASSES = _classes()
Model: Any = _CLASSES["ModelProto"]
Graph: Any = _CLASSES["GraphProto"]
Node: Any = _CLASSES["NodeProto"]
Tensor: Any = _CLASSES["TensorProto"]
ValueInfo: Any = _CLASSES["ValueInfoProto"]
