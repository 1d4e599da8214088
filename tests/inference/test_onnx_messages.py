"""Our part of ONNX's format, against the package `onnx`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import DESCRIPTOR

from panembed.inference.onnx_messages import EXTERNAL, FLOAT, FLOAT16, INT64, ITEM_BYTES, SCHEMA, Model

# Those that ONNX declares within others.
WITHIN = {"Dimension": ("TensorShapeProto", "Dimension"), "Tensor": ("TypeProto", "Tensor")}


def theirs(message):
    outer, *inner = WITHIN.get(message, (message,))
    found = DESCRIPTOR.message_types_by_name[outer]
    return found.nested_types_by_name[inner[0]] if inner else found


@pytest.mark.parametrize("message", SCHEMA)
def test_fields_are_those_of_onnx(message):
    for name, (number, kind) in SCHEMA[message].items():
        field = theirs(message).fields_by_name[name]
        assert field.number == number
        assert (field.label == field.LABEL_REPEATED if hasattr(field, "label") else field.is_repeated) == kind.endswith(
            "*"
        )
        single = kind.removesuffix("*")
        names = {field.TYPE_INT32: "int32", field.TYPE_INT64: "int64", field.TYPE_FLOAT: "float"}
        names |= {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes", field.TYPE_ENUM: "int32"}
        assert names.get(field.type, field.message_type and field.message_type.name) == single


def test_numbers_are_those_of_onnx():
    assert (FLOAT, FLOAT16, INT64) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64)
    assert onnx.TensorProto.EXTERNAL == EXTERNAL
    for number, size in ITEM_BYTES.items():
        assert helper.tensor_dtype_to_np_dtype(number).itemsize == size


def test_nothing_is_lost_on_the_way():
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    weight = numpy_helper.from_array(np.arange(27, dtype=np.float32).reshape(3, 1, 3, 3), "weight")
    node = helper.make_node("Conv", ["image", "weight"], ["out"], pads=[1, 1, 1, 1], group=3, auto_pad="NOTSET")
    model = helper.make_model(helper.make_graph([node], "graph", [image], [out], [weight]))
    model.metadata_props.add(key="a", value="\N{LEAF FLUTTERING IN WIND}")
    ours = Model.FromString(model.SerializeToString())
    size = ours.ByteSize()
    ours.DiscardUnknownFields()
    assert ours.ByteSize() == size
    assert onnx.load_from_string(ours.SerializeToString()) == model


def test_what_we_leave_out_is_seen():
    """A graph within a node, as `If` and `Loop` have."""
    body = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "body", [], [])
    model = helper.make_model(
        helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body)], "graph", [], [])
    )
    ours = Model.FromString(model.SerializeToString())
    size = ours.ByteSize()
    ours.DiscardUnknownFields()
    assert ours.ByteSize() < size
