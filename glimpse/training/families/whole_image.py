"""Training of the models that process the image at once: self-attention, and the two baselines without attention."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import LabelledBatch
from glimpse.models.cnn import POOLING, ConvolutionalNet
from glimpse.models.mlp import FullyConnectedNet
from glimpse.models.observer import WholeImageObserver
from glimpse.models.self_attention import STEMS, SelfAttention, SelfAttentionObserver
from glimpse.training.classifier import ClassifierTraining, check_training_options
from glimpse.training.transfer.backbone import BackboneTraining
from glimpse.training.transfer.linear_head import HEADS, check_head, fit_on_images


class WholeImageTraining(ClassifierTraining):
    """Train by cross-entropy alone."""

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor | None:
        """Cross-entropy."""
        images, labels = batch
        loss = self.classification(images, self(images).logits, labels)
        self.note(loss)
        return loss


class SelfAttentionTraining(WholeImageTraining):
    """Train self-attention over the patches of an image (Vaswani et al. 2017; Dosovitskiy et al. 2021).

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        patch: Side of a patch, pixels.
        features: Length of a node's vector.
        heads: Heads of each layer.
        layers: How many layers there are.
        mlp_ratio: How many times longer than a node's vector the hidden layer after the attention is.
        stem: How a patch becomes a vector: conv or linear.
        options: Those of :class:`glimpse.training.classifier.ClassifierTraining`.

    Raises:
        ValueError: When an option is unknown, or does not go with another.
    """

    kind: ClassVar[str] = "self"
    title: ClassVar[str] = "self-attention"
    observer: SelfAttentionObserver

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        patch: int = 8,
        features: int = 64,
        heads: int = 2,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        stem: str = "conv",
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        ranges = {"mlp_ratio": (1 / max(1, features), math.inf)}
        check_training_options(self.hparams, ("patch", "features", "heads", "layers"), ranges, {"stem": STEMS})
        model = SelfAttention(len(classes), image_shape[0], patch, features, heads, layers, mlp_ratio, stem)
        self.observer = SelfAttentionObserver(model)


class ConvolutionalTraining(BackboneTraining, WholeImageTraining):
    """Train a convolutional network, which attention is compared with.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        widths: Channels of each stage of the encoder; each stage halves the map's sides.
        depths: Layers of each stage.
        pooling: What is taken of a feature's map: max or mean. When left out max, of a backbone's map the mean.
        head: How the linear classifier begins: trained, at random; or fitted, by logistic regression on the features of
            a pretrained backbone, which leaves nothing to train where that is frozen as a whole.
        fit_images: Images that a fitted head is fitted on at most; all when left out.
        options: Those of :class:`glimpse.training.transfer.backbone.BackboneTraining`.

    Raises:
        ValueError: When an option is unknown, or does not go with another.
    """

    kind: ClassVar[str] = "cnn"
    title: ClassVar[str] = "convolutional net"
    observer: WholeImageObserver

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        widths: list[int] = [16, 32, 64],  # noqa: B006
        depths: list[int] = [1, 2, 3],  # noqa: B006
        pooling: str | None = None,
        head: str = "trained",
        fit_images: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        channels, height, width = image_shape
        trunk = self.new_trunk((height, width), "images")
        pooling = pooling or ("mean" if trunk else "max")
        check_training_options({**self.hparams, "pooling": pooling}, choices={"pooling": POOLING, "head": HEADS})
        check_head(head, self.hparams["backbone_weights"], fit_images)
        model = ConvolutionalNet(len(classes), channels, tuple(widths), tuple(depths), pooling, trunk)
        self.observer = WholeImageObserver(model, any_size=trunk is None or trunk.any_size)
        self.is_fitted = False

    @property
    def network(self) -> ConvolutionalNet:
        """The model."""
        model = self.observer.model
        assert isinstance(model, ConvolutionalNet)
        return model

    def on_fit_start(self) -> None:
        """Fit the head, where it is to be fitted; see :meth:`ClassifierTraining.on_fit_start`."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if self.hparams["head"] == "trained" or self.trainer.ckpt_path is not None or not isinstance(data, ImageData):
            return
        model, was_training = self.network, self.network.training
        weights = torch.ones(len(self.classes)) if self.class_weights is None else self.class_weights
        model.eval()
        fit_on_images(model.classifier, model.pooled_features, data, weights, self.hparams["fit_images"])
        model.train(was_training)
        self.is_fitted = self.hparams["freeze"] == "all"

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor | None:
        """Cross-entropy; nothing where the head is fitted."""
        if not self.is_fitted:
            return super().training_step(batch, batch_idx)
        self.note(torch.zeros(()))
        return None


class FullyConnectedTraining(WholeImageTraining):
    """Train a fully connected network, which attention is compared with.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        hidden: Length of each hidden layer.
        layers: How many hidden layers there are.
        options: Those of :class:`glimpse.training.classifier.ClassifierTraining`.

    Raises:
        ValueError: When an option is out of its range.
    """

    kind: ClassVar[str] = "mlp"
    title: ClassVar[str] = "fully connected net"
    observer: WholeImageObserver

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        hidden: int = 1600,
        layers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        check_training_options(self.hparams, ("hidden", "layers"))
        channels, height, width = image_shape
        model = FullyConnectedNet(len(classes), channels, height, width, hidden, layers)
        self.observer = WholeImageObserver(model, any_size=False)
