"""How an image becomes the network's input; the same in training, validation and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panembed.errors import InputError, SettingsError
from panembed.io.channels import Channel, channel_index
from panembed.io.images import MAX_PIXELS
from panembed.io.signal import Signal, single_signal

Statistics = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Mean and standard deviation of each channel of an image of values 0 to 1, 3x1x1 each."""

STRIDE = 32
"""Height and width of the network's input are multiples of this."""

_LEAST_CONTRAST = 0.04
"""Share of the strongest channel's deviation that every channel is divided by at least, so that noise in an empty
channel stays small. Stained tissue among the nuclei images is above 0.13."""

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


@dataclass(frozen=True, slots=True)
class Preparation:
    """Size and brightness of what the network sees.

    Attributes:
        size: height and width that fit "resize" stretches images to, multiples of 32; training crops are as large,
            unless the augmentation has a window.
        fit: "resize" stretches every image to `size`. "native" keeps the scale: training takes random crops, prediction
            the whole image, padded by reflection to multiples of 32.
        scale: with fit "native", images are stretched by this first, in training and in prediction.
        normalization: "image" gives each channel of each image mean 0 and variance 1 (Zachow 2022, section 4.1.2), and
            a training window those of its image; a channel with less than a 25th of the strongest one's deviation
            is divided by that 25th. "imagenet" uses ImageNet's mean and variance.
        channel: what of an image is the picture, see `view`.

    >>> prepared = Preparation((64, 64), "native").prepare(np.zeros((50, 70, 3), dtype=np.uint8))
    >>> prepared.shape
    (3, 64, 96)
    """

    size: tuple[int, int] = (256, 256)
    fit: Literal["resize", "native"] = "resize"
    normalization: Literal["image", "imagenet"] = "image"
    scale: float = 1.0
    channel: Channel = "auto"

    def __post_init__(self) -> None:
        if any(side < STRIDE or side % STRIDE for side in self.size):
            raise SettingsError(f"input.size: expected multiples of {STRIDE}, found {list(self.size)}")
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise SettingsError(f"input.size: expected at most {MAX_PIXELS:,} pixels, found {list(self.size)}")
        if not 0 < self.scale < float("inf"):
            raise SettingsError(f"input.scale: expected more than 0, found {self.scale}")
        if self.scale != 1 and self.fit == "resize":
            raise SettingsError(
                f"input.scale {self.scale} has no effect with input.fit resize, which stretches every image to "
                "input.size; change input.size, or set input.fit=native"
            )

    def signal(self, image: NDArray[np.uint8]) -> Signal | None:
        """The grey picture that the network sees instead of an HxWx3 uint8 image; None where it sees the image itself.

        With `channel` auto that is a single signal shown in colour (`panembed.io.signal.single_signal`), with red,
        green, blue or a number that channel, and with rgb nothing.

        Raises:
            InputError: the image has no such channel.

        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> image[2:5, 2:5, 1] = 200
        >>> Preparation().signal(image).colors, Preparation(channel="rgb").signal(image)
        ('green', None)
        """
        index = channel_index(self.channel)
        if index is None:
            return single_signal(image) if self.channel == "auto" else None
        # What was read from a file with a channel is grey.
        if (image[..., :1] == image[..., 1:]).all():
            return None
        if index > 2:
            raise InputError(f"the image has no channel {self.channel}, but 3 channels; expected a number from 1 to 3")
        return Signal(np.repeat(image[..., index : index + 1], 3, axis=2), f"channel {self.channel}")

    def view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the network sees of an HxWx3 uint8 image: the image, or its `signal`."""
        signal = self.signal(image)
        return image if signal is None else signal.picture

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Choose what is seen, resize or pad, and normalise.

        Args:
            image: HxWx3 uint8.

        Returns:
            3xhxw float32.

        Raises:
            InputError: the image has no such channel as `channel`.
        """
        image = self.view(image)
        height, width = image.shape[:2]
        if self.fit == "resize":
            return self.normalize(resize_image(image, self.size).transpose(2, 0, 1))
        height, width = self.stretched(height, width)
        array = self.normalize(resize_image(image, (height, width)).transpose(2, 0, 1))
        below, right = -height % STRIDE, -width % STRIDE
        mode: Literal["reflect", "edge"] = "reflect" if below < height and right < width else "edge"
        return np.pad(array, ((0, 0), (0, below), (0, right)), mode=mode)

    def stretched(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this size is stretched to, without padding.

        >>> Preparation(fit="native", scale=1.5).stretched(100, 33)
        (150, 50)
        """
        if self.fit == "resize":
            return self.size
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))

    def statistics(self, image: NDArray[np.uint8] | NDArray[np.float32]) -> Statistics:
        """What `normalize` subtracts from the channels, as fractions of 255, and divides them by.

        Args:
            image: 3xHxW of values 0..255.
        """
        return self._statistics(_unit(image))

    def normalize(
        self, image: NDArray[np.uint8] | NDArray[np.float32], statistics: Statistics | None = None
    ) -> NDArray[np.float32]:
        """Shift and scale the channels of a 3xHxW image of values 0..255.

        A channel without contrast becomes 0 with normalization "image".

        Args:
            image: what to normalise.
            statistics: of the image that it was cut out of; its own, if None.

        Returns:
            3xHxW float32.
        """
        array = _unit(image)
        mean, std = self._statistics(array) if statistics is None else statistics
        array -= mean
        array /= std
        return array

    def _statistics(self, array: NDArray[np.float32]) -> Statistics:
        """Those of values 0 to 1; the deviation of an image without contrast is a thousandth."""
        if self.normalization == "imagenet":
            return _IMAGENET_MEAN, _IMAGENET_STD
        # A float32 sum over a large image is off by far more than a grey value of a dim channel.
        mean = array.mean((1, 2), dtype=np.float64)
        square = np.einsum("chw,chw->c", array, array, dtype=np.float64) / array[0].size
        std = np.sqrt(np.maximum(square - mean**2, 1e-6))
        std = np.maximum(std, _LEAST_CONTRAST * std.max())
        return mean[:, None, None], std[:, None, None]

    def cut(self, maps: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Network outputs without what lies on the padding; those without it as they are.

        Args:
            maps: Kxhxw float32.
            shape: height and width of the image.
        """
        height, width = self.stretched(*shape)
        if self.fit == "resize" or maps.shape[1:] == (height, width):
            return maps
        return maps[:, :height, :width]

    def restore(self, maps: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Bring network outputs back to an image's own size: cut off the padding, or stretch bilinearly.

        Args:
            maps: Kxhxw float32.
            shape: height and width of the image.
        """
        return resize_maps(self.cut(maps, shape), shape)


def _unit(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Values 0..255 as 0..1."""
    # Channel after channel in memory, however the image lies there: all that follows is several times faster so.
    array: NDArray[np.float32] = np.divide(image, np.float32(255), dtype=np.float32, order="C")
    return array


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an HxWx3 uint8 image to height and width; antialiased bilinear."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_nearest(labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Stretch an HxW label array to height and width; nearest neighbour at pixel centres, so no new label appears."""
    rows = ((np.arange(size[0]) + 0.5) * labels.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * labels.shape[1] / size[1]).astype(np.intp)
    stretched: NDArray[np.int64] = labels[rows[:, None], columns]
    return stretched


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Stretch Kxhxw float maps to height and width; bilinear at pixel centres, as torch's align_corners=False."""
    if maps.shape[1:] == size:
        return maps
    above, below, row_weight = _neighbours(maps.shape[1], size[0])
    left, right, column_weight = _neighbours(maps.shape[2], size[1])
    stretched = np.empty((len(maps), *size), dtype=np.float32)
    # Map by map, and columns first: what is read twice is still in the cache.
    for narrow, out in zip(maps, stretched):
        first, second = np.take(narrow, left, 1), np.take(narrow, right, 1)
        second -= first
        second *= column_weight
        second += first
        first = np.take(second, above, 0)
        np.take(second, below, 0, out=out, mode="clip")  # the default mode would buffer
        out -= first
        out *= row_weight[:, None]
        out += first
    return stretched


def _neighbours(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The two source pixels that each of `target` pixels lies between, and the weight of the second."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(position.astype(np.intp), max(source - 2, 0))
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)
