"""Prediction with a network made up for the purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.cvppp import LEAVES
from panembed.errors import InputError, ModelError
from panembed.inference.grouping import Grouping
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation
from panembed.io.images import write_png
from panembed.results.result import PanopticResult


class BrightIsLeaf:
    """Bright pixels are leaf; the embedding is 10 right of the middle and 0 left of it."""

    def __init__(self, num_workers: int = 2) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.num_workers = num_workers
        self.started = 0

    def start_worker(self) -> None:
        self.started += 1

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.shapes.append(images.shape)
        assert images.dtype == np.float32
        bright = images.mean(1, keepdims=True)
        right = np.arange(images.shape[3]) >= images.shape[3] // 2
        embedding = np.broadcast_to(10.0 * right, bright.shape)
        return np.concatenate([-bright, bright], axis=1), embedding.astype(np.float32)


def photo(height: int = 64, width: int = 96) -> np.ndarray:
    """Two bright squares, left and right, on dark ground."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[20:40, 10:30] = 220
    image[10:30, width - 30 : width - 12] = 220
    return image


@pytest.fixture
def model() -> PanopticModel:
    return PanopticModel(BrightIsLeaf(), LEAVES, Preparation((64, 96)), Grouping(min_area=10))


def test_an_array(model: PanopticModel) -> None:
    image = photo()
    before = image.copy()
    result = model.predict(image)
    assert result.counts() == {"leaf": 2}
    assert np.array_equal(result.semantic == 1, image[..., 0] > 100)
    assert len(np.unique(result.instance[20:40, 10:30])) == 1
    assert model.backend.shapes == [(1, 3, 64, 96)]  # type: ignore[attr-defined]
    assert result.image is image
    assert np.array_equal(image, before)
    assert (result.name, model.predict(image, "plot 3").name) == ("image", "plot 3")


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path(model: PanopticModel, tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "plant 7.png"
    write_png(path, photo())
    result = model.predict(str(path) if as_text else path)
    assert (result.name, model.predict(path, name="7").name) == ("plant 7", "7")
    assert result.panoptic == model.segment(photo())
    assert np.array_equal(result.image, photo())


def test_the_result_has_the_images_size(model: PanopticModel) -> None:
    image = photo(100, 150)
    result = model.predict(image)
    assert result.semantic.shape == (100, 150)
    assert model.backend.shapes[-1] == (1, 3, 64, 96)  # type: ignore[attr-defined]
    assert result.counts() == {"leaf": 2}
    native = PanopticModel(BrightIsLeaf(), LEAVES, Preparation((64, 64), "native"))
    assert np.array_equal(native.segment(image).semantic, (image[..., 0] > 100).astype(np.uint8))
    assert native.backend.shapes == [(1, 3, 128, 160)]  # type: ignore[attr-defined]
    scaled = PanopticModel(BrightIsLeaf(), LEAVES, Preparation((64, 64), "native", scale=2.0))
    assert (scaled.segment(image).semantic == (image[..., 0] > 100)).mean() > 0.98
    assert scaled.backend.shapes == [(1, 3, 224, 320)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 4), (1, 64, 96, 3), (0, 5, 3)])
def test_arrays_of_another_shape(model: PanopticModel, shape: tuple[int, ...]) -> None:
    """`segment` takes what `predict` makes of a picture."""
    with pytest.raises(ValueError, match="image: expected HxWx3 uint8 RGB"):
        model.segment(np.zeros(shape, np.uint8))


def test_arrays_of_another_type(model: PanopticModel) -> None:
    with pytest.raises(ValueError, match=r'found Image; of a Pillow image take np.asarray\(image.convert\("RGB"\)\)'):
        model.segment(Image.new("RGB", (8, 8)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found float64"):
        model.segment(photo() / 255)  # type: ignore[arg-type]


def test_a_file_that_is_not_there(model: PanopticModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png"):
        model.predict(tmp_path / "nothing.png")


def test_a_broken_file_does_not_stop_the_others(model: PanopticModel, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    for path in paths:
        write_png(path, photo())
    paths[1].write_bytes(paths[0].read_bytes()[:60])
    paths[3].unlink()
    results = dict(model.predict_files(iter(paths)))
    assert list(results) == paths
    for number in (1, 3):
        assert isinstance(results[paths[number]], InputError)
        assert paths[number].name in str(results[paths[number]])
    for number in (0, 2, 4):
        result = results[paths[number]]
        assert isinstance(result, PanopticResult)
        assert (result.name, result.counts()) == ("abcde"[number], {"leaf": 2})


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whatever_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    backend = BrightIsLeaf(workers)
    model = PanopticModel(backend, LEAVES, Preparation((64, 96)), Grouping(min_area=10))
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        write_png(path, photo(width=90 + number))
    found = list(model.predict_files(paths))
    assert [path for path, _ in found] == paths
    assert [result.panoptic.shape[1] for _, result in found] == list(range(90, 99))  # type: ignore[union-attr]
    assert 1 <= backend.started <= workers


def test_no_files(model: PanopticModel) -> None:
    assert list(model.predict_files([])) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: not enough memory\nat ..."), r"RuntimeError: .* not enough memory\)"),
        (MemoryError(), r"\(MemoryError\)"),
        (ValueError("points: found NaN or infinity"), "found NaN"),
    ],
    ids=["memory", "bare", "nan"],
)
def test_an_image_that_fails_costs_no_other(model: PanopticModel, tmp_path: Path, error: Exception, told: str) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        write_png(path, photo(width=90 + number))

    class Fails(BrightIsLeaf):
        calls = 0

        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls += 1
            if self.calls == 2:
                raise error
            return super().__call__(images)

    model.backend = Fails(1)
    first, second, third = (result for _, result in model.predict_files(paths))
    assert isinstance(second, InputError)
    with pytest.raises(InputError, match=rf"1\.png: could not be segmented .*{told}"):
        raise second
    assert isinstance(first, PanopticResult)
    assert isinstance(third, PanopticResult)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_gives_no_numbers(tmp_path: Path, where: int, value: float) -> None:
    class Broken(BrightIsLeaf):
        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
            scores, embeddings = super().__call__(images)
            outputs = scores, embeddings, np.zeros((1, 2, *scores.shape[2:]), np.float32)
            outputs[where][0, 0, 5, 7] = value
            return outputs

    write_png(tmp_path / "a.png", photo())
    for method in ("seed_map", "mean_shift", "components"):
        broken = PanopticModel(Broken(1), LEAVES, Preparation((64, 96)), Grouping(method))
        [(_, error)] = broken.predict_files([tmp_path / "a.png"])
        assert isinstance(error, ModelError)
        assert str(error).startswith(f"{tmp_path / 'a.png'}: the network gives NaN or infinite numbers")


def test_a_fault_of_the_program_is_not_taken_for_a_broken_file(model: PanopticModel, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", photo())

    class Broken(BrightIsLeaf):
        def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            raise ZeroDivisionError

    model.backend = Broken()
    with pytest.raises(ZeroDivisionError):
        list(model.predict_files([tmp_path / "a.png"]))
