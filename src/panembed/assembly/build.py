"""Settings become objects: the only place that knows which name stands for which class.

PyTorch is imported by the functions that need it, so that everything else works without.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from panembed.assembly.compatibility import check_heads, check_size
from panembed.errors import MissingExtraError, SettingsError
from panembed.inference.grouping import Grouping
from panembed.inference.model_folder import resolve_model_folder
from panembed.inference.preparation import Preparation
from panembed.labels.categories import LabelSet
from panembed.settings.schema import AugmentationSettings, GroupingSettings, InputSettings, Settings

if TYPE_CHECKING:
    from panembed.losses.panoptic import PanopticLoss
    from panembed.models.panoptic_net import PanopticNet
    from panembed.training.transforms import Augmentation

logger = logging.getLogger("panembed")


def require_torch() -> None:
    """Check that the packages for training and for PyTorch models are there.

    Raises:
        MissingExtraError: names the extra to install.
    """
    try:
        import accelerate  # noqa: F401
        import segmentation_models_pytorch  # noqa: F401
        import torch  # noqa: F401

        # Not imported, as the curves are drawn hours later; but it would be a pity to find out then.
        missing = None if find_spec("matplotlib") else "matplotlib"
    except ImportError as error:
        missing = error.name
    if missing is not None:
        raise MissingExtraError(
            f"this needs PyTorch and its companions ({missing} is missing); "
            "install them with: pip install 'panembed[train]'"
        )


def preparation(settings: InputSettings) -> Preparation:
    """How images become the network's input."""
    return Preparation(settings.size, settings.fit, settings.normalization, settings.scale, settings.channel)


def augmentation(settings: AugmentationSettings) -> Augmentation:
    """How training images are changed; `source_scale` is the training set's."""
    from panembed.training.transforms import Augmentation

    return Augmentation(**settings.model_dump(exclude={"source_scale"}))


def grouping(settings: GroupingSettings, label_set: LabelSet) -> Grouping:
    """How embeddings become objects.

    Raises:
        SettingsError: values that don't go together, or a class that isn't a thing of the label set.
    """
    common = settings.model_dump(exclude={"by_class"})
    things = {label_set[index].name: index for index in label_set.things}
    by_class = {}
    for name, values in settings.by_class.items():
        if name not in things:
            near = difflib.get_close_matches(name, things, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(
                f"grouping.by_class: {name!r} is no thing class; expected {', '.join(things) or 'none'}{hint}"
            )
        try:
            by_class[things[name]] = Grouping(**(common | values.model_dump(exclude_none=True) | {"vote": False}))
        except SettingsError as error:
            raise SettingsError(f"grouping.by_class.{name}: {error}") from error
    return Grouping(**common, by_class=by_class)


def network(settings: Settings, label_set: LabelSet, *, pretrained: bool) -> PanopticNet:
    """The network; with `pretrained` its encoder starts from `model.encoder_weights`."""
    from panembed.models.encoder_weights import load_encoder_weights
    from panembed.models.panoptic_net import PanopticNet

    model = settings.model
    net = PanopticNet(
        len(label_set),
        model.embedding_dim,
        architecture=model.architecture,
        encoder=model.encoder,
        attention=model.attention,
        decoder_channels=model.decoder_channels,
        coordinates=model.coordinates,
        anchor_tau=model.anchor_tau,
        seed_head=model.seed_head,
        density=model.density,
        detail_channels=model.detail_channels,
        freeze_encoder=model.freeze_encoder,
        options=model.options,
    )
    if pretrained and model.encoder_weights != "none":
        load_encoder_weights(net.encoder, model.encoder, model.encoder_weights)
    return net


def loss(settings: Settings, label_set: LabelSet, class_shares: NDArray[np.float64] | None = None) -> PanopticLoss:
    """Both losses; `class_shares`, of the training pixels, are needed with `loss.class_balance`."""
    from panembed.losses.panoptic import PanopticLoss

    values = settings.loss.model_dump(exclude={"class_balance"})
    weights = None
    if class_shares is not None and settings.loss.class_balance > 0:
        # A class that doesn't occur has no pixels to weigh.
        balanced = np.where(class_shares > 0, class_shares, 1.0) ** -settings.loss.class_balance
        weights = (balanced / balanced.min()).tolist()
    return PanopticLoss(label_set.things, **values, class_weights=weights)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the settings of a training become, checked to go together.

    Attributes:
        prepare: how images become the network's input.
        augment: how training images are changed.
        group: how embeddings become objects.
        net: the network.
    """

    prepare: Preparation
    augment: Augmentation
    group: Grouping
    net: PanopticNet


def parts(settings: Settings, label_set: LabelSet, *, weights: Literal["load", "check", "random"]) -> Parts:
    """Build and check everything that settings ask for without looking at an image.

    Args:
        settings: of the training.
        label_set: the classes of its data.
        weights: `load` those of `model.start_from` or `model.encoder_weights`; only `check` that there are such; or
            leave them `random`, as a checkpoint brings all.

    Raises:
        SettingsError: they don't go together.
        ModelError: there is no model to start from.
        MissingExtraError: PyTorch is not installed.
    """
    require_torch()
    from panembed.assembly.start import check_start, load_start
    from panembed.models.encoder_weights import check_source

    check_heads(settings)
    start = settings.model.start_from
    if weights != "random" and start is not None:
        check_start(settings, resolve_model_folder(start))
    elif weights != "random":
        check_source(settings.model.encoder_weights)
    built = Parts(
        preparation(settings.input),
        augmentation(settings.augmentation),
        grouping(settings.grouping, label_set),
        network(settings, label_set, pretrained=weights == "load" and start is None),
    )
    check_size(built.net, settings)
    if weights == "load" and start is not None:
        load_start(built.net, start)
    return built
