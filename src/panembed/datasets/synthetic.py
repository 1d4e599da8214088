"""Made-up plants with exact labels: rosettes of overlapping leaves, for tests, demonstrations and first runs."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from panembed.datasets.cvppp import LEAVES
from panembed.datasets.sample import Sample
from panembed.errors import InputError, OutputError
from panembed.io.images import write_png
from panembed.io.label_images import write_instances
from panembed.labels.panoptic_map import PanopticMap

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def rosette(seed: int, size: int | tuple[int, int] = 256, num_leaves: int | None = None) -> Sample:
    """Draw a plant seen from above.

    Leaves are petioled ellipses around a centre, the oldest and largest at the back; each turns by about the golden
    angle from the one before, as in real rosettes, and differs in size, colour, veins and shading. The soil is
    textured and partly mossy, so that green alone doesn't give the plant away.

    Args:
        seed: the same seed draws the same plant.
        size: height and width in pixels, or one number for both; 16 or more.
        num_leaves: leaves to draw, 1 or more; 6 to 18 at random where None. A leaf of which fewer than 4 pixels are in
            sight is drawn but not labelled, so the truth may hold fewer.

    Returns:
        A sample with classes background (0) and leaf (1), leaves 1..K from back to front, id `plantNNNN` by the seed.

    Raises:
        ValueError: size or num_leaves is too small.

    >>> sample = rosette(3, size=64, num_leaves=5)
    >>> sample.image.shape, sample.truth.num_instances
    ((64, 64, 3), 5)
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise ValueError(f"size: expected 16 pixels or more, found {height}x{width}")
    rng = np.random.default_rng(seed)
    count = int(rng.integers(6, 19)) if num_leaves is None else num_leaves
    if count < 1:
        raise ValueError(f"num_leaves: expected 1 or more, found {num_leaves}")
    scale = min(height, width)
    image = _soil(rng, height, width)
    instance = np.zeros((height, width), dtype=np.int32)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float64)
    center_y, center_x = height / 2 + rng.normal(0, 0.03) * scale, width / 2 + rng.normal(0, 0.03) * scale
    reach = scale * rng.uniform(0.33, 0.45)
    hue = rng.normal(0, 0.5)
    light = rng.uniform(0, 2 * math.pi)
    first_angle = rng.uniform(0, 2 * math.pi)
    for leaf in range(1, count + 1):
        youth = (leaf - 1) / max(count - 1, 1)
        length = reach * (1 - 0.72 * youth**0.9) * rng.uniform(0.85, 1.1)
        angle = first_angle + leaf * _GOLDEN_ANGLE + rng.normal(0, 0.12)
        view = _window(center_y, center_x, angle, length, 0.06 * scale, height, width)
        # The leaf's own axes, in units of its length: along 0 (stem) to 1 (tip), across to both sides of the midrib.
        dx, dy = xs[view] - center_x, ys[view] - center_y
        along = (dx * math.cos(angle) + dy * math.sin(angle)) / length
        across = (-dx * math.sin(angle) + dy * math.cos(angle)) / length - rng.normal(0, 0.12) * along * (1 - along)
        half_width = rng.uniform(0.20, 0.27)
        blade_start = rng.uniform(0.25, 0.40)
        middle, half_length = (1 + blade_start) / 2, (1 - blade_start) / 2
        place = (along - middle) / half_length
        breadth = half_width * np.sqrt(np.clip(1 - place**2, 0, None)) * (1 + 0.18 * place)
        wave = 1 + 0.05 * np.sin(9 * along + rng.uniform(0, 6))
        blade = np.abs(across) < breadth * wave
        petiole = (np.abs(across) < max(0.035, 1.1 / length)) & (along > 0) & (along < middle)
        mask = blade | petiole
        shadow = ndimage.gaussian_filter(mask.astype(np.float64), 0.012 * scale)
        drop = ndimage.shift(shadow, 0.012 * scale * np.array([math.sin(light), math.cos(light)]), order=1)
        image[view] *= 1 - 0.5 * drop[..., None]
        image[view][mask] = _leaf_colors(rng, along, across, breadth, blade, angle - light, youth, hue)[mask]
        instance[view][mask] = leaf
    image = ndimage.gaussian_filter(image, (0.5, 0.5, 0)) + rng.normal(0, 0.012, image.shape)
    slope = (xs / width - 0.5) * math.cos(light) + (ys / height - 0.5) * math.sin(light)
    image *= 1 - 0.12 * slope[..., None]
    pixels = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    return Sample(pixels, _truth(instance), f"plant{seed:04}")


def _window(
    y: float, x: float, angle: float, length: float, margin: float, height: int, width: int
) -> tuple[slice, slice]:
    """The part of the picture that a leaf and its shadow may touch."""
    margin += 0.4 * length
    tip_y, tip_x = y + length * math.sin(angle), x + length * math.cos(angle)
    rows = slice(max(int(min(y, tip_y) - margin), 0), min(int(max(y, tip_y) + margin) + 1, height))
    columns = slice(max(int(min(x, tip_x) - margin), 0), min(int(max(x, tip_x) + margin) + 1, width))
    return rows, columns


def _truth(instance: NDArray[np.int32]) -> PanopticMap:
    """Give leaves of fewer than 4 visible pixels to the background, number the others 1..K."""
    area = np.bincount(instance.ravel())
    kept = area >= 4
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[instance]
    return PanopticMap((numbers > 0).astype(np.uint8), numbers)


def _noise(rng: np.random.Generator, height: int, width: int, sigma: float) -> NDArray[np.float64]:
    """Smooth noise of mean 0 and deviation 1."""
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma, mode="wrap").astype(np.float64)
    scaled: NDArray[np.float64] = (field - field.mean()) / max(float(field.std()), 1e-9)
    return scaled


def _soil(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Crumbly brown ground with some moss, HxWx3 in 0..1."""
    scale = min(height, width)
    coarse, fine = _noise(rng, height, width, scale / 25), _noise(rng, height, width, scale / 150)
    soil = np.array([0.30, 0.22, 0.16]) * rng.uniform(0.8, 1.25)
    ground = soil * (1 + 0.14 * coarse + 0.20 * fine)[..., None]
    moss = 1 / (1 + np.exp(-4 * (_noise(rng, height, width, scale / 12) - rng.uniform(1.2, 2.2))))
    moss_colors = np.array([0.24, 0.30, 0.12]) * (1 + 0.25 * fine)[..., None]
    ground += moss[..., None] * (moss_colors - ground)
    stones = _noise(rng, height, width, scale / 90) > 2.4
    ground[stones] = 0.75 * ground[stones] + 0.12
    clipped: NDArray[np.float64] = np.clip(ground, 0, 1)
    return clipped


def _leaf_colors(
    rng: np.random.Generator,
    along: NDArray[np.float64],
    across: NDArray[np.float64],
    breadth: NDArray[np.float64],
    blade: NDArray[np.bool_],
    angle_to_light: float,
    youth: float,
    hue: float,
) -> NDArray[np.float64]:
    """Colours of one leaf over its window, HxWx3: base, shading, midrib and side veins, paler petiole."""
    base = np.array([0.22, 0.44, 0.13]) + youth * np.array([0.14, 0.16, 0.05])
    base = base + hue * np.array([0.05, 0.01, 0.02]) + rng.normal(0, 0.02, 3)
    side = np.clip(across / np.maximum(breadth, 1e-6), -1, 1)
    bulge = 0.14 * side * math.cos(angle_to_light + math.pi / 2) - 0.16 * side**2 + 0.10 * (along - 0.5)
    midrib = np.exp(-((across / 0.014) ** 2)) * (along < 0.95)
    side_veins = np.maximum(np.sin(2 * math.pi * (7 * along - 9 * np.abs(across))), 0) ** 6 * (1 - np.abs(side))
    mottle = 0.03 * _noise(rng, along.shape[0], along.shape[1], max(1.0, along.shape[0] / 30))
    brightness = 1 + bulge + mottle + 0.28 * midrib + 0.10 * side_veins + rng.normal(0, 0.06)
    colors = base * brightness[..., None]
    stalk = np.array([0.42, 0.50, 0.24]) * (1 - 8 * np.abs(across))[..., None]
    leaf: NDArray[np.float64] = np.clip(np.where(blade[..., None], colors, stalk), 0, 1)
    return leaf


class SyntheticDataset:
    """Made-up plants, drawn when they are asked for.

    Args:
        num_images: how many, 1 or more.
        seed: of the first plant; the next has seed + 1 and so on, so ranges of seeds that don't meet share no plant.
        size: height and width in pixels, or one number for both.

    Raises:
        ValueError: num_images is below 1 or seed is negative.

    >>> dataset = SyntheticDataset(2, seed=5, size=32)
    >>> dataset.ids, dataset.load("plant0006").size
    (['plant0005', 'plant0006'], (32, 32))
    """

    def __init__(self, num_images: int, seed: int = 0, size: int | tuple[int, int] = 256) -> None:
        if num_images < 1 or seed < 0:
            raise ValueError(f"expected num_images >= 1 and seed >= 0, found {num_images} and {seed}")
        self.label_set = LEAVES
        self.root = Path("synthetic")
        self.size = size
        # Names of one length, so that sorting by name is sorting by seed.
        digits = max(4, len(str(seed + num_images - 1)))
        self._seeds = {f"plant{number:0{digits}}": number for number in range(seed, seed + num_images)}
        self.ids = sorted(self._seeds)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"SyntheticDataset({len(self)} images)"

    def image_path(self, id: str) -> Path:
        """A name for messages; no such file exists until `write_folder` writes it."""
        self._seed(id)
        return self.root / "images" / f"{id}.png"

    def _seed(self, id: str) -> int:
        try:
            return self._seeds[id]
        except KeyError:
            raise InputError(f"no made-up image is called {id!r}; names look like {self.ids[0]!r}") from None

    def read_image(self, id: str) -> NDArray[np.uint8]:
        """The picture, HxWx3 uint8 RGB."""
        return self.load(id).image

    def read_truth(self, id: str) -> PanopticMap:
        """Its leaves."""
        return self.load(id).truth

    def load(self, id: str) -> Sample:
        """Picture and leaves."""
        drawn = rosette(self._seed(id), self.size)
        return Sample(drawn.image, drawn.truth, id)


def write_folder(dataset: SyntheticDataset, root: str | os.PathLike[str]) -> None:
    """Write made-up plants as files that `FolderDataset` reads: `images/NAME.png` and `labels/NAME.png`.

    Args:
        dataset: the plants.
        root: a new or empty folder.

    Raises:
        OutputError: the place can't be written, or `root` holds something already.

    >>> import tempfile
    >>> from panembed.datasets.folder import FolderDataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_folder(SyntheticDataset(2, size=32), folder)
    ...     FolderDataset(folder).ids
    ['plant0000', 'plant0001']
    """
    root = Path(root)
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise OutputError(f"{root}: is in use; expected a new or empty folder; choose another")
        for name in ("images", "labels"):
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{root}: can't be made ({error.strerror}); choose a folder that you may write to") from error
    for id in dataset.ids:
        sample = dataset.load(id)
        write_png(root / "images" / f"{id}.png", sample.image)
        write_instances(root / "labels" / f"{id}.png", sample.truth.instance)
