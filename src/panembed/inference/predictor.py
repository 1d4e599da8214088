"""A trained network with all it needs to predict: image in, panoptic result out."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from panembed.errors import ModelError, PanembedError, not_segmented
from panembed.inference.backend import Backend
from panembed.inference.grouping import Grouping
from panembed.inference.learned import remarks
from panembed.inference.object_scores import Calibration, object_features, uncalibrated_score
from panembed.inference.preparation import Preparation
from panembed.io.images import as_picture, read_image
from panembed.io.signal import Signal
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.remarks import Remark
from panembed.results.result import PanopticResult

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger("panembed")


Picture: TypeAlias = "str | os.PathLike[str] | NDArray[Any] | Image"
"""What `PanopticModel.predict` takes: a file, an array, or a Pillow image."""

Many: TypeAlias = "list[Any] | tuple[Any, ...] | Iterator[Any]"
"""Several of them."""

_Image = TypeVar("_Image", bound="str | os.PathLike[str] | NDArray[Any] | Image")


class PanopticModel:
    """Predicts panoptic maps.

    Args:
        backend: the network.
        label_set: its classes.
        preparation: how an image becomes the network's input.
        grouping: how embeddings become objects.
        calibration: makes probabilities of scores; None leaves them as `uncalibrated_score` gives them.

        learned: what the training images were like, see `panembed.inference.learned.Learned`; results unlike them are
            remarked on.

    `panembed.load` makes one from a folder.
    """

    def __init__(
        self,
        backend: Backend,
        label_set: LabelSet,
        preparation: Preparation,
        grouping: Grouping | None = None,
        calibration: Calibration | None = None,
        *,
        learned: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.label_set = label_set
        self.preparation = preparation
        self.grouping = grouping or Grouping()
        self.calibration = calibration
        self.learned = learned or {}

    @overload
    def predict(self, image: Picture, name: str | None = None) -> PanopticResult: ...

    @overload
    def predict(self, image: Many) -> Iterator[PanopticResult]: ...

    def predict(self, image: Picture | Many, name: str | None = None) -> PanopticResult | Iterator[PanopticResult]:
        """Segment one image, or many.

        Args:
            image: a path, an array, a Pillow image, or a list or an iterator of these. Arrays and Pillow images are
                taken by the rules that files are read by, see `panembed.io.images.as_picture`: HxW grey or HxWx3 RGB,
                perhaps with alpha, of 8 or 16 bits.
            name: what files that `PanopticResult.save` writes are called by; None takes the file's name, or "image"; in
                a list the arrays are image-1, image-2, ... by their place.

        Returns:
            The result at the image's own size. For many images an iterator of results in their order, worked on side by
            side while you take them: a few at a time are in memory, so that thousands may come. It raises at the first
            image that can't be read; `predict_files` goes on past those.

        Raises:
            InputError: the file can't be read, or the array is no picture.
        """
        if isinstance(image, list | tuple | Iterator):
            if name is not None:
                raise ValueError("name is of one image; in a list, files have their own, and arrays are numbered")
            return self._stream(image)
        return self._predict(image, name or (Path(image).stem if isinstance(image, str | os.PathLike) else "image"))

    def _predict(self, image: Picture, name: str) -> PanopticResult:
        channel = self.preparation.channel
        if isinstance(image, str | os.PathLike):
            pixels = read_image(image, channel=channel)
        else:
            pixels = as_picture(image, channel=channel, name=name)
        signal = self.preparation.signal(pixels)
        panoptic, scores = self.segment_scored(pixels if signal is None else signal.picture)
        source = Path(image) if isinstance(image, str | os.PathLike) else None
        result = PanopticResult(panoptic, self.label_set, pixels, name, scores=scores, source=source)
        result.remarks = tuple(self._remarks(result, signal))
        return result

    def _remarks(self, result: PanopticResult, signal: Signal | None) -> Iterator[Remark]:
        if signal is not None and self.preparation.channel == "auto":
            yield Remark("signal", f"{signal.colors} seen as grey")
        if self.label_set.things and not result.objects:
            yield Remark("none", "no object found")
        seen = result.image if signal is None else signal.picture
        things = {index: self.label_set[index].name for index in self.label_set.things}
        yield from remarks(self.learned, seen, result.panoptic, things, self.preparation)

    def _stream(self, images: Iterable[Picture]) -> Iterator[PanopticResult]:
        named = (
            (image, Path(image).stem if isinstance(image, str | os.PathLike) else f"image-{number}")
            for number, image in enumerate(images, 1)
        )
        for _, prediction in self._side_by_side(named):
            yield prediction.result()

    def segment(self, image: NDArray[np.uint8]) -> PanopticMap:
        """The panoptic map of an HxWx3 uint8 image."""
        return self._outputs(image)[0]

    def segment_scored(self, image: NDArray[np.uint8]) -> tuple[PanopticMap, NDArray[np.float64]]:
        """The panoptic map of an HxWx3 uint8 image, and a score 0..1 of each object, in order of class and instance."""
        panoptic, scores, embeddings, seeds = self._outputs(image)
        return panoptic, self.score(panoptic, scores, embeddings, seeds)

    def score(
        self,
        panoptic: PanopticMap,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        seeds: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float64]:
        """A score 0..1 of each object of a map, in order of class and instance, from the outputs that made it."""
        features = self._features(panoptic, scores, embeddings, seeds)
        return (uncalibrated_score if self.calibration is None else self.calibration.score)(features)

    def features(self, image: NDArray[np.uint8]) -> tuple[PanopticMap, NDArray[np.float64]]:
        """The panoptic map of an HxWx3 uint8 image, and what scores are made of, KxF."""
        panoptic, scores, embeddings, seeds = self._outputs(image)
        return panoptic, self._features(panoptic, scores, embeddings, seeds)

    def _features(
        self,
        panoptic: PanopticMap,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        seeds: NDArray[np.float32] | None,
    ) -> NDArray[np.float64]:
        bandwidth = self.grouping.bandwidth
        return object_features(panoptic, self.label_set, scores, embeddings, seeds, self.preparation, bandwidth)

    def _outputs(
        self, image: NDArray[np.uint8]
    ) -> tuple[PanopticMap, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """The map, and class scores, embeddings and seeds that it is made of."""
        if not isinstance(image, np.ndarray):
            raise ValueError(
                f"image: expected a path or an HxWx3 uint8 RGB array, found {type(image).__name__}; of a Pillow image "
                'take np.asarray(image.convert("RGB"))'
            )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image: expected HxWx3 uint8 RGB, found {image.dtype} {image.shape}")
        scores, embeddings, *seeds = (output[0] for output in self.backend(self.preparation.prepare(image)[None]))
        panoptic = self.group(scores, embeddings, (image.shape[0], image.shape[1]), *seeds)
        return panoptic, scores, embeddings, seeds[0] if seeds else None

    def group(
        self,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        shape: tuple[int, int],
        seeds: NDArray[np.float32] | None = None,
    ) -> PanopticMap:
        """The panoptic map from the network's outputs for one image of that height and width."""
        return self.grouping.group(scores, embeddings, self.label_set.things, self.preparation, shape, seeds)

    def predict_files(self, paths: Iterable[Path]) -> Iterator[tuple[Path, PanopticResult | PanembedError]]:
        """Segment files, several at a time where that is faster; results come in the order of the paths.

        A file that can't be read, or that the network or the grouping fails on, gives its error instead of a result,
        and the rest go on.
        """
        for path, prediction in self._side_by_side((path, path.stem) for path in paths):
            yield _outcome(path, prediction)

    def _side_by_side(self, named: Iterable[tuple[_Image, str]]) -> Iterator[tuple[_Image, Future[PanopticResult]]]:
        """Each image with what becomes of it, in their order; a few are begun before the first is taken."""
        workers = self.backend.num_workers
        waiting: deque[tuple[_Image, Future[PanopticResult]]] = deque()
        # Side by side, threads that each use every core for their matrix products would wait for one another.
        limits = threadpool_limits(1, user_api="blas") if workers > 1 else nullcontext()
        with limits, ThreadPoolExecutor(workers, "predict", initializer=self.backend.start_worker) as pool:
            for image, name in named:
                waiting.append((image, pool.submit(self._predict, image, name)))
                if len(waiting) > workers + 1:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()


def _outcome(path: Path, prediction: Future[PanopticResult]) -> tuple[Path, PanopticResult | PanembedError]:
    try:
        return path, prediction.result()
    except ModelError as error:
        return path, ModelError(f"{path}: {error}")
    except PanembedError as error:
        return path, error
    except (RuntimeError, MemoryError, ValueError) as error:
        # RuntimeError is how PyTorch tells that memory ran out, MemoryError how NumPy does.
        logger.debug("%s", path, exc_info=error)
        return path, not_segmented(path, error)
