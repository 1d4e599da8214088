"""Model files of strangers: what isn't ours is refused in a sentence, and nothing beside the file is read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import panembed
from panembed.errors import ModelError, PanembedError
from panembed.inference.model_config import read_config, update_grouping
from panembed.inference.onnx_file import CONFIG_KEY, NETWORK_KEY, weight_places

SHORT = onnx.TensorProto(name="short", data_type=1, dims=[2], raw_data=b"1234")
BODY = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "body", [], [])

SMALL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tiny_exported, tmp_path):
    return shutil.copy(tiny_exported, tmp_path / "stranger.onnx")


@pytest.fixture
def graph_folder(tiny_graph_folder, tmp_path):
    """A model folder with a graph beside its weights, to damage."""
    return shutil.copytree(tiny_graph_folder, tmp_path / "model")


def change(path, how):
    """Let `how` change the ONNX model in a file."""
    model = onnx.load(path, load_external_data=False)
    how(model)
    path.write_bytes(model.SerializeToString())


def refused(path):
    """The sentence with which loading fails."""
    with pytest.raises(ModelError) as caught:
        panembed.load(path, runtime="onnx")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 700
    return sentence


def test_an_exported_file_loads(file):
    assert panembed.load(file).backend(np.zeros((2, 3, 64, 32), np.float32))[0].shape == (2, 2, 64, 32)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "holds no network"), (b"\x89PNG\r\n\x1a\n", "no ONNX file"), (b"a photo, really", "no ONNX file")],
)
def test_other_files(tmp_path, content, told):
    (tmp_path / "a.onnx").write_bytes(content)
    assert told in refused(tmp_path / "a.onnx")


def test_a_model_of_another_tool(tmp_path):
    image = helper.make_tensor_value_info("image", 1, ["n", 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["y"])], "g", [image], [image])
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    assert "says nothing of panembed" in refused(tmp_path / "a.onnx")


@SMALL
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file(tiny_exported, tmp_path, share):
    data = tiny_exported.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: int(share * len(data))])
    assert "cut.onnx" in refused(tmp_path / "cut.onnx")


@SMALL
@given(back=st.integers(1, 12_000))
def test_a_file_that_lacks_its_end(tiny_exported, tmp_path, back):
    """Where the settings are."""
    (tmp_path / "cut.onnx").write_bytes(tiny_exported.read_bytes()[:-back])
    assert "cut.onnx" in refused(tmp_path / "cut.onnx")


@SMALL
@given(data=st.data())
def test_changed_bytes_never_end_in_a_traceback(tiny_exported, tmp_path, data):
    """Some load all the same: nobody can tell a changed weight."""
    content = bytearray(tiny_exported.read_bytes())
    # The graph without its weights is small, and lies at the beginning and the end.
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, 3000) | st.integers(len(content) - 12_000, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "changed.onnx").write_bytes(content)
    with contextlib.suppress(PanembedError, MemoryError):
        panembed.load(tmp_path / "changed.onnx").segment(np.zeros((40, 50, 3), np.uint8))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "[" * 100_000, '{"format": 99}'])
def test_changed_settings(file, text):
    def spoil(model):
        for entry in model.metadata_props:
            if entry.key == CONFIG_KEY:
                entry.value = text

    change(file, spoil)
    assert "stranger.onnx" in refused(file)


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("model", "embedding_dim", 5, "embeddings with 5"),
        ("model", "seed_head", "series", "seeds with 2"),
        ("model", "embedding_dim", 10**9, "embedding_dim"),
        ("input", "size", [33, 33], "multiples of 32"),
        ("input", "size", [10**7, 10**7], None),
        ("grouping", "method", "rm -rf", "grouping.method"),
    ],
)
def test_settings_that_do_not_fit_the_network(file, section, key, value, told):
    def spoil(model):
        for entry in model.metadata_props:
            if entry.key == CONFIG_KEY:
                data = json.loads(entry.value)
                data["settings"][section][key] = value
                entry.value = json.dumps(data)

    change(file, spoil)
    if told is not None:
        with pytest.raises(PanembedError, match=told):
            panembed.load(file)


def test_absurd_sizes_fail_by_themselves(file):
    """Settings that ask for pictures of more than there is memory."""

    def spoil(model):
        for entry in model.metadata_props:
            if entry.key == CONFIG_KEY:
                data = json.loads(entry.value)
                data["settings"]["input"]["size"] = [320_000, 320_000]
                entry.value = json.dumps(data)

    change(file, spoil)
    with pytest.raises(PanembedError, match=r"input\.size"):
        panembed.load(file)


def add_node(node, *tensors):
    def spoil(model):
        model.graph.node.append(node)
        model.graph.initializer.extend(tensors)

    return spoil


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (add_node(helper.make_node("Evil", ["image"], ["x"], domain="com.evil")), "the operator 'Evil' of 'com.evil'"),
        (add_node(helper.make_node("FusedConv", ["image"], ["x"], domain="com.microsoft")), "'com.microsoft'"),
        (add_node(helper.make_node("NoSuchOperator", ["image"], ["x"])), "can't take this network"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.evil", 1)), "operators of 'com.evil'"),
        (lambda m: m.opset_import[0].__setattr__("version", 10**6), "can't take this network"),
        (lambda m: m.graph.output.pop(), "gives"),
        (lambda m: m.graph.output[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 10**6), "gives"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 32), "takes"),
        (lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 7), "takes"),
        (lambda m: m.graph.initializer[0].dims.append(10**9), "its shape asks for"),
        (lambda m: m.graph.initializer[0].dims.extend([2**62, 2**62]), "its shape asks for"),
        (lambda m: m.graph.initializer[0].dims.append(-1), "unknown type or shape"),
        (lambda m: m.graph.initializer[0].__setattr__("data_type", 8), "unknown type or shape"),
        (lambda m: m.graph.initializer[0].__setattr__("raw_data", b""), "has 0 bytes"),
        (
            add_node(helper.make_node("Constant", [], ["x"], value=SHORT)),
            "has 4 bytes",
        ),
        (lambda m: m.functions.append(onnx.FunctionProto(name="f", domain="d")), "functions, branches or loops"),
        (lambda m: m.training_info.add(), "functions, branches or loops"),
        (lambda m: m.graph.sparse_initializer.add(), "functions, branches or loops"),
        (
            add_node(helper.make_node("Loop", ["", ""], ["x"], body=BODY)),
            "functions, branches or loops",
        ),
    ],
)
def test_graphs_that_are_not_ours(file, how, told):
    change(file, how)
    assert told in refused(file)


@pytest.mark.parametrize("location", ["secret.bin", "/etc/hostname", "../secret.bin", "model.safetensors"])
def test_a_file_with_weights_elsewhere(file, tmp_path, location):
    """One file has everything in it; where a weight is said to lie elsewhere, nobody looks."""
    for place in (tmp_path, tmp_path.parent):
        (place / "secret.bin").write_bytes(bytes(10_000))

    def spoil(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    change(file, spoil)
    assert "lies in another file" in refused(file)
    # The field alone, without saying that it counts.
    change(file, lambda model: model.graph.initializer[0].ClearField("data_location"))
    assert "lies in another file" in refused(file)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("location", "/etc/hostname", "lies in ['/etc/hostname']"),
        ("location", "../model.safetensors", "lies in ['../model.safetensors']"),
        ("location", "./model.safetensors", "lies in ['./model.safetensors']"),
        ("location", "", "lies in ['']"),
        ("location", "config.json", "lies in ['config.json']"),
        ("offset", "0", "of another network"),
        ("offset", "-8", "of another network"),
        ("length", "999999999999", "of another network"),
        ("length", "1", "of another network"),
        ("checksum", "0", "of another network"),
    ],
)
def test_a_graph_that_points_elsewhere(graph_folder, key, value, told):
    def spoil(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
                return
        tensor.external_data.add(key=key, value=value)

    change(graph_folder / "model.onnx", spoil)
    assert told in refused(graph_folder)


@pytest.mark.parametrize("first", [True, False])
def test_two_places_for_one_tensor(graph_folder, first):
    """A reader may take either."""

    def spoil(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
        tensor.external_data.add(key="location", value="/etc/hostname")
        if first:
            tensor.external_data.insert(0, tensor.external_data.pop())

    change(graph_folder / "model.onnx", spoil)
    assert "lies in" in refused(graph_folder)


def test_a_constant_that_lies_elsewhere(graph_folder):
    tensor = onnx.TensorProto(name="encoder.conv", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="model.safetensors")
    change(graph_folder / "model.onnx", add_node(helper.make_node("Constant", [], ["x"], value=tensor)))
    assert "lies in ['model.safetensors']" in refused(graph_folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_links_out_of_the_folder(graph_folder, tmp_path, name):
    (graph_folder / name).rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", graph_folder / name)
    assert "is a link that leads out of the model folder" in refused(graph_folder)
    (graph_folder / name).unlink()
    os.symlink("/dev/zero", graph_folder / name)
    assert "is a link that leads out" in refused(graph_folder)


def test_links_within_the_folder_are_fine(graph_folder):
    """As caches of models have them."""
    (graph_folder / "model.safetensors").rename(graph_folder / "blob")
    os.symlink("blob", graph_folder / "model.safetensors")
    panembed.load(graph_folder, runtime="onnx")


def test_a_device_is_no_file(tmp_path):
    with pytest.raises(ModelError):
        panembed.load("/dev/zero")


def test_weights_of_another_network(graph_folder):
    """Of the same names; a layer is wider."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(graph_folder / "model.safetensors")
    name = next(name for name, value in weights.items() if value.ndim == 4)
    save_file(weights | {name: np.concatenate([weights[name]] * 2)}, graph_folder / "model.safetensors")
    assert "is of another network than the weights and settings beside it" in refused(graph_folder)


def test_settings_of_another_network(graph_folder):
    data = json.loads((graph_folder / "config.json").read_text())
    data["settings"]["model"]["anchor_tau"] = 8.0
    (graph_folder / "config.json").write_text(json.dumps(data))
    assert "is of another network" in refused(graph_folder)


@SMALL
@given(share=st.floats(0, 1, exclude_max=True), which=st.sampled_from(["model.safetensors", "model.onnx"]))
def test_truncated_parts_of_a_folder(graph_folder, share, which):
    path = graph_folder / which
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        assert which in refused(graph_folder)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
        b"\xff\xff",
    ],
)
def test_damaged_headers_of_weights(tmp_path, header):
    with pytest.raises(ModelError, match=r"a\.safetensors: damaged"):
        weight_places(tmp_path / "a.safetensors", len(header).to_bytes(8, "little") + header + bytes(8))


@pytest.mark.parametrize("length", [0, 2**63, 2**64 - 1, 10**7])
def test_lengths_of_headers(tmp_path, length):
    with pytest.raises(ModelError, match="damaged"):
        weight_places(tmp_path / "a.safetensors", length.to_bytes(8, "little") + bytes(100))


def test_places_are_those_of_safetensors(tiny_model):
    from safetensors.numpy import load_file

    path = tiny_model / "model.safetensors"
    data = path.read_bytes()
    places = weight_places(path, data)
    weights = load_file(path)
    assert places.keys() == weights.keys()
    for name, value in weights.items():
        place = places[name]
        assert data[place.offset : place.offset + place.length] == value.tobytes()
        assert place.shape == value.shape


def test_a_huge_file_is_not_read(tmp_path):
    """A file of holes costs nothing to make."""
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(1 << 40)
    assert "expected at most" in refused(tmp_path / "huge.onnx")


def test_a_huge_output_fails_by_itself(file):
    """A network that asks for more memory than there is: the image fails, the process lives."""

    def spoil(model):
        inside = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["inner" if name == inside else name for name in node.output]
        scales = numpy_helper.from_array(np.array([1, 1, 50_000, 50_000], np.float32), "scales")
        model.graph.initializer.append(scales)
        model.graph.node.append(helper.make_node("Resize", ["inner", "", "scales"], [inside], mode="nearest"))

    change(file, spoil)
    model = panembed.load(file)
    with pytest.raises((MemoryError, ModelError)):
        model.segment(np.zeros((64, 64, 3), np.uint8))


def test_an_output_of_another_size(file):
    def spoil(model):
        inside = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["inner" if name == inside else name for name in node.output]
        scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
        model.graph.initializer.append(scales)
        model.graph.node.append(helper.make_node("Resize", ["inner", "", "scales"], [inside], mode="nearest"))

    change(file, spoil)
    with pytest.raises(ModelError, match=r"gives float32 \(1, 2, 128, 128\); expected float32 \(1, 2, 64, 64\)"):
        panembed.load(file).segment(np.zeros((64, 64, 3), np.uint8))


def test_tuned_settings_go_into_the_file(file):
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    before = panembed.load(file).backend(images)
    update_grouping(file, {"min_area": 11}, {"split": "val"})
    config = read_config(file)
    assert config.settings["grouping"]["min_area"] == 11
    assert config.former_grouping[0]["replaced_for"] == {"split": "val"}
    model = panembed.load(file)
    assert model.grouping.min_area == 11
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(model.backend(images), before))


def test_metadata_are_named(file):
    keys = [entry.key for entry in onnx.load(file).metadata_props]
    assert keys == [NETWORK_KEY, CONFIG_KEY]
