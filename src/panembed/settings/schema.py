"""Settings of a run: typed, checked, read from and written to YAML. Data only; `assembly.build` makes objects of it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panembed.errors import SettingsError, shown
from panembed.io.yaml_text import load_yaml

PREDICTION_SECTIONS = ("input", "grouping")
"""The sections of settings that prediction heeds; all others are for training."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True, allow_inf_nan=False)


class InputSettings(_Section):
    """What the network sees; see `panembed.inference.preparation.Preparation`."""

    size: tuple[int, int] = Field(
        (256, 256),
        description="height and width that images are stretched to, multiples of 32; with fit native of training crops",
    )
    fit: Literal["resize", "native"] = Field("resize", description="stretch images to size, or all by the same scale")
    scale: float = Field(1.0, gt=0, le=8, description="with fit native, images are stretched by this first")
    normalization: Literal["image", "imagenet"] = Field(
        "image", description="colours less this mean, over this deviation: of each whole image, or of ImageNet"
    )
    channel: Literal["auto", "rgb", "red", "green", "blue"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="what is seen of an image, as grey: a channel by its colour, or by its number from 1 where a file "
        "has more; auto: colours as they are, unless they show a single signal (fluorescence); rgb: always as they are",
    )


class AugmentationSettings(_Section):
    """Random changes of training images; see `panembed.training.transforms.Augmentation`."""

    rotation: float = Field(360.0, ge=0, le=360, description="degrees; angles are drawn from 0 to this")
    horizontal_flip: bool = Field(True, description="mirror left and right half of the time")
    vertical_flip: bool = Field(False, description="mirror top and bottom half of the time")
    scale: tuple[float, float] = Field((1.0, 1.5), description="least and greatest stretch, drawn for each axis")
    window: tuple[int, int] | None = Field(
        None, description="height and width of training crops, multiples of 32; by default input.size"
    )
    around_objects: float = Field(
        0.0, ge=0, le=1, description="share of the windows that are placed about the objects instead of anywhere"
    )
    color_jitter: float = Field(0.0, ge=0, lt=1, description="brightness, contrast and saturation, up to this fraction")
    copy_paste: float = Field(
        0.0, ge=0, le=100, description="objects of training images that are laid over each image, on average"
    )
    source_scale: float = Field(
        1.0, ge=1, le=4, description="images are kept at this times input.size, so that stretched crops stay sharp"
    )


class ModelSettings(_Section):
    """The network; see `panembed.models.panoptic_net.PanopticNet`."""

    architecture: str = Field(
        "Unet", description="a network of segmentation_models_pytorch, or package.module:Class of your own"
    )
    encoder: str = Field("resnet34", description="its encoder; tu-NAME takes one of timm")
    encoder_weights: str = Field(
        "none", description="none, imagenet (from a hub), packaged, or a file; not used with start_from"
    )
    start_from: str | None = Field(
        None,
        description="a trained model (folder, or name of a shipped one) that training starts from; the network is that "
        "model's but for what you set yourself, and weights that don't fit start anew",
    )
    freeze_encoder: bool = Field(False, description="train all but the encoder")
    attention: Literal["scse"] | None = Field(None, description="in the decoder")
    decoder_channels: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="of the decoder's blocks, the deepest first; by default the architecture's own"
    )
    embedding_dim: int = Field(16, ge=1, le=256, description="numbers that each pixel gets")
    coordinates: bool = Field(False, description="x and y are two more input channels")
    anchor_tau: float | None = Field(
        None, gt=0, description="a pixel's position over this, in pixels, is added to two embedding dimensions"
    )
    seed_head: Literal["parallel", "series"] | None = Field(
        None, description="a third head for grouping.method seed_map; series feeds it to the embedding head"
    )
    density: bool = Field(
        False,
        description="the seed head also says how much of an object each pixel is, which checks what grouping found",
    )
    detail_channels: int | None = Field(
        None,
        ge=1,
        le=256,
        description="features of the image at full resolution that join the decoder's; sharp outlines",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the architecture")


class LossSettings(_Section):
    """What training makes small; see `panembed.losses.panoptic.PanopticLoss`."""

    delta_var: float = Field(0.5, gt=0, description="pixels nearer than this to their object's mean are not pulled")
    delta_dist: float = Field(1.5, gt=0, description="means farther apart than twice this are not pushed")
    alpha: float = Field(1.0, ge=0, description="factor of the pull of pixels to their object's mean")
    beta: float = Field(1.0, ge=0, description="factor of the push between means")
    gamma: float = Field(0.001, ge=0, description="factor of the pull of means to the origin")
    instance_weight: float = Field(1.0, ge=0, description="factor of the instance loss beside the class loss")
    soft_mask: float = Field(0.0, ge=0, description="factor of the soft masks' overlap in the instance loss")
    overlap: Literal["dice", "lovasz"] = Field("dice", description="of the soft masks and the objects")
    density: float = Field(0.0, ge=0, description="factor of the density's error in the instance loss")
    class_balance: float = Field(
        0.0, ge=0, le=1, description="weigh a class's pixels by (its share of all training pixels) to minus this power"
    )
    small_objects: float = Field(
        0.0, ge=0, description="greatest additional weight of the pixels of objects smaller than the median"
    )
    per_class: bool = Field(True, description="push apart objects of one class only; false: all things, for vote")


class TrainingSettings(_Section):
    """How weights are learned; see `panembed.training.trainer.Trainer`."""

    epochs: int = Field(100, ge=1, description="times that all training images are seen")
    batch_size: int = Field(4, ge=1, description="images in a step")
    drop_last: bool = Field(True, description="leave out an epoch's last batch if it is smaller and not the only one")
    skip_limit: int = Field(
        10, ge=0, description="batches without a finite loss and gradient that are left out; one more ends the training"
    )
    learning_rate: float = Field(3e-3, gt=0, description="of AdamW; its peak with one-cycle")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    schedule: Literal["constant", "one-cycle"] = Field("constant", description="of the learning rate")
    clip_gradient_norm: float | None = Field(None, gt=0, description="greatest norm of a step's gradient")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="of the mean of weights over steps, which predicts")
    batch_norm_until: float = Field(
        1.0, ge=0, le=1, description="share of the epochs after which batch norm keeps its statistics, as in prediction"
    )
    detail_from: float = Field(
        0.0, ge=0, le=1, description="share of the epochs after which the detail branch learns; before, it adds nothing"
    )
    monitor: Literal["val_loss", "val_pq_things", "val_pq"] = Field(
        "val_loss", description="what best weights are best in"
    )
    patience: int | None = Field(20, ge=1, description="epochs without a better value after which training stops")
    validate_every: int = Field(1, ge=1, description="epochs from one validation to the next")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 where the device computes in it; the heads stay float32"
    )
    num_workers: int = Field(
        0,
        ge=0,
        description="processes that augment images, no more than there are cores; 0 does it in the training process",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the weights, the order of images and their changes")
    checkpoint_seconds: float = Field(60.0, ge=0, description="at least this long between checkpoints within an epoch")


class ClassGroupingSettings(_Section):
    """What one thing class is grouped by; None takes what holds for all."""

    bandwidth: float | None = Field(None, gt=0)
    seed_bandwidth: float | None = Field(None, gt=0)
    min_area: int | None = Field(None, ge=1)
    min_confidence: float | None = Field(None, ge=0, lt=1)
    second_look: float | None = Field(None, gt=0)
    least_seed: float | None = Field(None, ge=0, lt=1)
    own_share: float | None = Field(None, ge=0, lt=1)
    recount: float | None = Field(None, gt=0)
    max_distance: float | None = Field(None, gt=0)
    one_piece: bool | None = None
    clear_border: bool | None = None


class GroupingSettings(_Section):
    """How embeddings become objects; see `panembed.inference.grouping.Grouping`."""

    method: Literal["mean_shift", "hdbscan", "components", "seed_map"] = Field(
        "mean_shift", description="what finds objects in the embeddings; components leaves these aside"
    )
    bandwidth: float = Field(1.5, gt=0, description="of mean shift: modes nearer than this are one")
    seed_bandwidth: float | None = Field(
        None, gt=0, description="radius of the kernel that climbs to the modes; by default bandwidth"
    )
    min_area: int = Field(20, ge=1, description="pixels, as the network sees the image; what is smaller joins others")
    min_confidence: float = Field(
        0.0, ge=0, lt=1, description="class probability from which on a pixel helps to find objects"
    )
    second_look: float | None = Field(
        None, gt=0, description="look again for small objects whose modes are this far from others; with mean_shift"
    )
    least_seed: float = Field(
        0.5, ge=0, lt=1, description="score from which on a pixel may be an object's centre; with seed_map"
    )
    own_share: float = Field(
        0.7, ge=0, lt=1, description="of what a centre reaches, that is in no object yet; with seed_map"
    )
    recount: float | None = Field(
        None, gt=0, description="as many objects as the density sums to, times this; with seed_map and model.density"
    )
    max_distance: float | None = Field(
        None, gt=0, description="pixels farther than this from every centre, in embedding units, become void"
    )
    one_piece: bool = Field(False, description="of each object only its largest connected piece stays")
    clear_border: bool = Field(False, description="parts of objects that touch the image's border become void")
    by_class: dict[str, ClassGroupingSettings] = Field(
        default_factory=dict, description="other values for single thing classes, by their names"
    )
    vote: bool = Field(False, description="cluster all things together; an object's pixels vote on its class")


class SplitSettings(_Section):
    """Which part of the images serves what, where the data folder has no split.json."""

    fractions: tuple[float, float, float] = Field((0.6, 0.2, 0.2), description="training, validation, test")
    seed: int = Field(0, ge=0, description="of the draw")
    official: bool = Field(True, description="where a kind of data has a split that results are published for, take it")


class Settings(_Section):
    """Everything that decides a run.

    >>> Settings.from_mapping({"model": {"embedding_dim": 8}}).model.embedding_dim
    8
    """

    input: InputSettings = InputSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    grouping: GroupingSettings = GroupingSettings()
    split: SplitSettings = SplitSettings()
    labels: dict[str, Any] | None = Field(
        None, description="what the numbers in label images mean, as in labels.yaml, for data folders without one"
    )

    @classmethod
    def from_mapping(cls, data: Any, where: str = "settings") -> Settings:
        """Check plain data; SettingsError names the key, what was found and what was expected."""
        if not isinstance(data, dict):
            raise SettingsError(f"{where}: expected sections such as model: and training:, found {type(data).__name__}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise SettingsError(f"{where}: unknown key {key!r}{_nearest(key)}") from None
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            raise SettingsError(
                f"{where}: {key}: found {shown(first['input'])}; {_sentence(first['msg'])}{more}"
            ) from None

    @classmethod
    def load(
        cls, preset: str | None = None, config: str | os.PathLike[str] | None = None, overrides: Iterable[str] = ()
    ) -> Settings:
        """Read a preset or a YAML file, then apply `key.path=value` overrides.

        Raises:
            SettingsError: no such preset or file, not YAML, an unknown key (the nearest known one is named), or a wrong
                type.
        """
        if (preset is None) == (config is None):
            raise SettingsError("give one of --preset NAME and --config FILE")
        if preset is not None:
            names = preset_names()
            if preset not in names:
                raise SettingsError(f"--preset: no preset {preset!r}; there are {', '.join(names)}")
            where, text = f"preset {preset}", preset_text(preset)
        else:
            assert config is not None
            where = str(config)
            try:
                text = Path(config).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise SettingsError(f"--config {config}: can't be read ({reason}); expected a YAML file") from error
        try:
            data = load_yaml(text) or {}
        except ValueError as error:
            raise SettingsError(f"{where}: not YAML: {error}") from error
        if isinstance(data, dict):  # else from_mapping says what it is
            for override in overrides:
                _apply(data, override)
        return cls.from_mapping(data, where)

    def changed(self, overrides: Iterable[str], sections: tuple[str, ...] = PREDICTION_SECTIONS) -> Settings:
        """These settings with `key.path=value` overrides, of some sections only.

        Args:
            overrides: such as "grouping.clear_border=false".
            sections: that may be changed; by default those that a trained model still heeds.

        Raises:
            SettingsError: a key of another section, an unknown key (the nearest known one is named), or a wrong type.

        >>> Settings().changed(["grouping.min_area=7"]).grouping.min_area
        7
        """
        data = self.model_dump(mode="json")
        for override in overrides:
            section = override.partition("=")[0].strip().split(".")[0]
            if section in type(self).model_fields and section not in sections:
                raise SettingsError(
                    f"--set {override!r}: {section} holds settings for training, and this model is trained "
                    f"already; expected a setting of {' or '.join(sections)}"
                )
            _apply(data, override)
        return type(self).from_mapping(data, "--set")

    def advice(self) -> list[str]:
        """Sentences about settings that are allowed but hardly meant.

        >>> Settings.from_mapping({"model": {"freeze_encoder": True}}).advice()[0][:20]
        'model.freeze_encoder'
        """
        said = []
        if self.model.freeze_encoder and self.model.encoder_weights == "none" and self.model.start_from is None:
            said.append(
                "model.freeze_encoder keeps the encoder as it is, and model.encoder_weights=none makes it random: it "
                "will stay random; add --set model.freeze_encoder=false to train it"
            )
        if self.loss.delta_dist <= 2 * self.loss.delta_var:
            said.append(
                f"loss.delta_dist {self.loss.delta_dist} is not above 2 * delta_var {self.loss.delta_var}: even a "
                "loss of 0 would not tell objects apart for certain"
            )
        if self.model.anchor_tau is not None and self.loss.gamma > 0:
            said.append(
                f"loss.gamma {self.loss.gamma} draws means to the origin, but model.anchor_tau spreads them over "
                "the image; add --set loss.gamma=0"
            )
        if self.model.seed_head is not None and self.loss.soft_mask == 0:
            said.append("model.seed_head is trained by the loss of soft masks only; add --set loss.soft_mask=1")
        if self.model.density and self.loss.density == 0:
            said.append("model.density is trained by its own loss only; add --set loss.density=1")
        if self.loss.density > 0 and not self.model.density:
            said.append("loss.density has no effect without model.density; add it, or leave both out")
        if self.training.detail_from > 0 and self.model.detail_channels is None:
            said.append("training.detail_from has no effect without model.detail_channels; add it, or leave both out")
        if self.grouping.recount is not None and self.grouping.method != "seed_map":
            said.append(f"grouping.recount has no effect with method {self.grouping.method}; it is for seed_map")
        if self.grouping.vote and self.loss.per_class:
            said.append(
                "grouping.vote clusters all things together, but loss.per_class lets objects of different classes lie "
                "on one spot; add --set loss.per_class=false"
            )
        if self.augmentation.source_scale > 1 and self.input.fit == "native":
            said.append(
                "augmentation.source_scale has no effect with input.fit native, which keeps the images' own scale"
            )
        return said

    def to_yaml(self) -> str:
        """The settings as YAML that `load` reads back."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def preset_names() -> list[str]:
    """Names of the presets in the package.

    >>> "leaf" in preset_names()
    True
    """
    folder = resources.files("panembed.settings") / "presets"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML of a preset, with its comments."""
    return (resources.files("panembed.settings") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def parse_override(override: str) -> tuple[list[str], Any]:
    """The path and the value of `key.path=value`.

    >>> parse_override("grouping.min_area=7")
    (['grouping', 'min_area'], 7)
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override!r}: expected KEY=VALUE, such as training.epochs=50")
    try:
        parsed = load_yaml(value)
    except ValueError as error:
        raise SettingsError(f"--set {override!r}: the value isn't YAML") from error
    return key.strip().split("."), parsed


def _apply(data: Any, override: str) -> None:
    (*path, last), value = parse_override(override)
    for part in path:
        if not isinstance(data, dict):
            break
        data = data.setdefault(part, {})
    if not isinstance(data, dict):
        raise SettingsError(
            f"--set {override!r}: {'.'.join([*path, last])!r} leads into a value; expected KEY=VALUE, such as "
            "training.epochs=50"
        )
    if not path and last in _sections() and isinstance(value, dict) and isinstance(data.get(last), dict):
        data[last] |= value  # what isn't said stays
    else:
        data[last] = value


def _sections() -> dict[str, type[BaseModel]]:
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def known_keys() -> list[str]:
    """All keys, such as model and model.encoder."""
    inside = [f"{name}.{key}" for name, section in _sections().items() for key in section.model_fields]
    return [*Settings.model_fields, *inside]


def _nearest(key: str) -> str:
    known = known_keys()
    last = key.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(key, known, 1, 0.6) or [k for k in known if k.rsplit(".", 1)[-1] == last]
    if not close:
        by_last = {k.rsplit(".", 1)[-1]: k for k in known}
        close = [by_last[k] for k in difflib.get_close_matches(last, by_last, 1, 0.6)]
    return f"; did you mean {close[0]!r}?" if close else f"; known sections are {', '.join(Settings.model_fields)}"


def _sentence(message: str) -> str:
    message = message.replace("Input should be", "expected")
    return message[:1].lower() + message[1:]
