"""The LightningDataModule: images in memory, batches by index, canvases drawn where the batch is."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float, Int64, UInt8
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from glimpse.contract.card import FIT
from glimpse.contract.texts import visible
from glimpse.data.augmentation import Augmentation
from glimpse.data.batches import Batches, EpochBatches
from glimpse.data.canvas import Canvas, jittered
from glimpse.data.datasets import DATASETS, FOLDER, SOURCES, DataError, Source, data_root
from glimpse.data.folder import FITS, LabelTable, image_folder, labelled_files
from glimpse.data.folder.boxes import on_canvas
from glimpse.data.held_out import TEST_CANVASES, VALIDATION_CANVASES, FrozenBlocks, LabelledBatch, generator_for
from glimpse.data.share import WHOLE, Share, share_of_this_process
from glimpse.errors import Argument, Setting

FORMERLY = {"fit": "letterbox", "image_height": 64, "image_width": 64, "channels": 3}
"""What was done to a folder's images where the options of a training name no way."""


def complete_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options that a checkpoint has of :class:`ImageData`: an earlier version left some to its defaults.

    Args:
        options: By their names.
    """
    if options.get("dataset") != FOLDER or "fit" in options:
        return dict(options)
    return {**options, **{name: options.get(name) or value for name, value in FORMERLY.items()}}


_READ: WeakValueDictionary[tuple[object, ...], Source] = WeakValueDictionary()
"""The data sets that somebody holds in memory, so that several trainings in one process read them once."""


def _as_it_is(batch: Any) -> Any:
    """Keep a batch a tuple, where the DataLoader would make it a list."""
    return batch


class ImageData(LightningDataModule):
    """Any data set, as it is or on canvases.

    Training canvases are drawn anew for every batch, on the device that trains. Validation and test canvases
    are frozen.

    Args:
        dataset: ``digits`` (embedded), ``mnist``, ``fashion-mnist``, ``cifar10``, ``svhn`` or ``folder``.
        root: Folder of the data set; the environment variable ``GLIMPSE_DATA`` or ``./data`` when left out.
        download: Whether torchvision may download what is not there.
        canvas_height: Height of the canvas, pixels; 0 for no canvas.
        canvas_width: Width of the canvas, pixels; 0 for no canvas.
        num_pieces: Pieces of clutter on a canvas.
        piece_size: Side of a piece, pixels.
        jitter: Without a canvas: training images are moved by up to so many pixels along each axis.
        augmentation: Without a canvas: how training images are changed anew in every epoch: ``none``; ``mild`` (small
            moves, sizes and turns, brightness and contrast); ``strong`` (more of it); ``photographs`` (random crops and
            colours). None of them mirrors an image.
        flips: Without a canvas: whether half of the training images are mirrored left to right. Leave it out where that
            makes another class of an image, as of a letter or a sign with an arrow.
        image_height: For ``folder`` alone: every image is brought to this height, pixels. When both sides are left out,
            they follow from the images' sizes, see :func:`glimpse.data.folder.sizes.canvas_size`.
        image_width: For ``folder`` alone: every image is brought to this width, pixels.
        fit: For ``folder`` alone: ``squash`` scales every image to height x width, whatever its proportions;
            ``letterbox`` keeps them, and centres it on black. ``squash`` when left out.
        channels: For ``folder`` alone: 1 for grey, 3 for colour; 3 when left out.
        group: For ``folder`` alone: a regular expression for the files' groups, each of which stays in one part; see
            :func:`glimpse.data.folder.reading.image_folder`.
        labels: For ``folder`` alone: a CSV file of labels, in place of folders; see :mod:`glimpse.data.folder.labels`.
        skip_unreadable: For ``folder`` alone: whether to leave out images that can't be read.
        boxes: For ``folder`` alone: where objects are, a CSV file or a folder of masks, or ``none``; found by itself
            when left out. See :mod:`glimpse.data.folder.boxes`.
        near_duplicates: For ``folder`` alone: whether to look for near-duplicates and to keep them in one part; true
            when left out.
        cache: For ``folder`` alone: a folder in which decoded images are kept on disk, for more of them than memory
            holds.
        batch_size: Training images in a batch.
        passes: How often each training image comes in an epoch.
        seed: Fixes the order of the images and the training canvases.

    Raises:
        DataError: When the data set is unknown, is not there, or an option does not fit it.
    """

    def __init__(
        self,
        dataset: str = "digits",
        root: str | None = None,
        download: bool = False,
        canvas_height: int = 0,
        canvas_width: int = 0,
        num_pieces: int = 0,
        piece_size: int = 8,
        jitter: int = 0,
        augmentation: str = "none",
        flips: bool = False,
        image_height: int | None = None,
        image_width: int | None = None,
        fit: str | None = None,
        channels: int | None = None,
        group: str | None = None,
        labels: str | None = None,
        skip_unreadable: bool = False,
        boxes: str | None = None,
        near_duplicates: bool | None = None,
        cache: str | None = None,
        batch_size: int = 128,
        passes: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dataset not in DATASETS:
            raise DataError(
                "expected ", Argument("dataset"), f" out of {', '.join(DATASETS)}; got {dataset!r}; choose one of them"
            )
        of_folder = {
            "channels": channels,
            "image_height": image_height,
            "image_width": image_width,
            "fit": fit,
            "group": group,
            "labels": labels,
            "skip_unreadable": skip_unreadable or None,
            "boxes": boxes,
            "near_duplicates": near_duplicates,
            "cache": cache,
        }
        for name, value in of_folder.items():
            if value is not None and dataset != FOLDER:
                raise DataError(
                    "expected ",
                    Argument(name),
                    f" with the data set {FOLDER} alone, got {value} with {dataset}, whose images have a shape, parts "
                    "and labels of their own; leave it out",
                )
        if fit is not None and fit not in FITS:
            raise DataError("expected ", Argument("fit"), f" out of {', '.join(FITS)}; got {fit!r}; choose one of them")
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("passes", passes, 1),
            ("jitter", jitter, 0),
            ("seed", seed, 0),
            ("canvas_height", canvas_height, 0),
            ("canvas_width", canvas_width, 0),
            ("image_height", image_height, 1),
            ("image_width", image_width, 1),
        ):
            if value is not None and value < least:
                raise DataError("expected ", Argument(name), f" of at least {least}, got {value}; raise it")
        if (image_height is None) != (image_width is None):
            raise DataError(
                "expected both ",
                Argument("image_height"),
                " and ",
                Argument("image_width"),
                f", or neither, got {image_height} and {image_width}; give both, or leave both to the images' sizes",
            )
        if bool(canvas_height) != bool(canvas_width) or (num_pieces and not canvas_height):
            raise DataError(
                "a canvas needs both its sides, and clutter needs a canvas; got ",
                Setting("canvas_height", canvas_height),
                ", ",
                Setting("canvas_width", canvas_width),
                ", ",
                Setting("num_pieces", num_pieces),
            )
        self.augmentation = Augmentation(augmentation, flips)
        for name, value in (("jitter", jitter), ("augmentation", augmentation), ("flips", flips)):
            if value and value != "none" and canvas_height:
                raise DataError(
                    "expected ",
                    Argument(name),
                    f" without a canvas alone, got {value} with a canvas of {canvas_height}x{canvas_width}, on which "
                    "images are moved anyway; leave one of them out",
                )
        if channels not in (None, 1, 3):
            raise DataError("expected ", Argument("channels"), f" to be 1 (grey) or 3 (colour), got {channels}")
        self.save_hyperparameters()
        if dataset == FOLDER:
            # A checkpoint says what was done, whatever a later version does when nothing is said.
            self.hparams.update(fit=fit or "squash", channels=channels or 3)
        self.dataset = dataset
        self.root = root
        self.download = download
        self.jitter = jitter
        self.labels = labels
        self.reading: dict[str, Any] = {
            "group": group,
            "boxes": boxes,
            "skip_unreadable": skip_unreadable,
            "near_duplicates": near_duplicates is not False,
            "cache": Path(cache).expanduser() if cache else None,
        }
        self.batch_size = batch_size
        self.passes = passes
        self.seed = seed
        self.canvas = Canvas(canvas_height, canvas_width, num_pieces, piece_size) if canvas_height else None
        self._source: Source | None = None
        self._generator: torch.Generator | None = None
        self._pool: Tensor | None = None

    @property
    def _key(self) -> tuple[object, ...]:
        """What the parts are read by."""
        said = self.hparams
        root = data_root(self.root).resolve()
        if self.dataset != FOLDER:
            return self.dataset, root
        shape = tuple(said[name] for name in ("image_height", "image_width", "channels", "fit"))
        return root, *shape, self.labels, *self.reading.values()

    @property
    def source(self) -> Source:
        """The data set's parts, read when first asked for."""
        key = self._key
        if self._source is None:
            self._source = _READ.get(key)
        if self._source is None:
            if self.dataset == FOLDER:
                said = self.hparams
                self._source = image_folder(
                    self._found,
                    said["image_height"],
                    said["image_width"],
                    said["channels"],
                    size_policy=FITS[said["fit"]],
                    **self.reading,
                )
            else:
                self._source = SOURCES[self.dataset](self.root, self.download)
            _READ[key] = self._source
        if self.dataset == FOLDER:
            height, width = self._source.train.images.shape[2:]
            self.hparams.update(image_height=height, image_width=width)
        return self._source

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return list(self._found.tree.classes if self.dataset == FOLDER else self.source.classes)

    @cached_property
    def _found(self) -> LabelTable:
        """The files of a folder."""
        return labelled_files(data_root(self.root), self.labels)

    @property
    def class_counts(self) -> Int64[Tensor, " classes"]:
        """Training images of each class."""
        return torch.bincount(self.source.train.labels, minlength=len(self.source.classes))

    @property
    def image_shape(self) -> list[int]:
        """Channels, height and width of what the model gets to see."""
        if self.dataset == FOLDER and self.hparams["image_height"] is not None:
            channels, height, width = (self.hparams[name] for name in ("channels", "image_height", "image_width"))
        else:
            channels, height, width = self.source.train.images.shape[1:]
        if self.canvas:
            return [channels, self.canvas.height, self.canvas.width]
        return [channels, height, width]

    @property
    def size_policy(self) -> str:
        """How an image of another size comes onto what the model sees, for a model's card."""
        return FITS[self.hparams["fit"]] if self.dataset == FOLDER and self.canvas is None else FIT

    def describe(self) -> str:
        """The data in words, for a model's card."""
        name = visible(data_root(self.root).resolve().name) if self.dataset == FOLDER else self.dataset
        if self.canvas is None:
            return name
        clutter = f", {self.canvas.num_pieces} pieces of clutter" if self.canvas.num_pieces else ""
        return f"{name} on {self.canvas.height}x{self.canvas.width} canvases{clutter}"

    def setup(self, stage: str | None = None) -> None:
        """Read the data."""
        _ = self.source

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Batches in the order of the epoch; where several processes train, this one's share of each."""
        sampler = self.epoch_batches(share_of_this_process())
        taught = getattr(getattr(self.trainer, "lightning_module", None), "takes_boxes", False)
        return DataLoader(Batches(self.source.train, taught), sampler=sampler, batch_size=None, collate_fn=_as_it_is)

    def epoch_batches(self, share: Share) -> EpochBatches:
        """The order of the training images, in batches.

        Args:
            share: The share of each batch.

        Raises:
            DataError: When a batch has no equal shares.
        """
        return EpochBatches(len(self.source.train), self.batch_size, self.passes, self.seed, share)

    def val_dataloader(self) -> DataLoader[LabelledBatch]:
        """The frozen validation images."""
        return DataLoader(self._validation_blocks(), batch_size=None, collate_fn=_as_it_is)

    def test_dataloader(self) -> DataLoader[LabelledBatch]:
        """The frozen test images."""
        return DataLoader(self._test_blocks(), batch_size=None, collate_fn=_as_it_is)

    def val_boxes(self) -> Int64[Tensor, "images 4"]:
        """Where each validation image lies on its frozen canvas, in pixels, (left, top, right, bottom).

        Raises:
            DataError: When there is no canvas.
        """
        return self._validation_blocks().boxes()

    def test_boxes(self) -> Int64[Tensor, "images 4"]:
        """Where each test image lies on its frozen canvas, in pixels, (left, top, right, bottom).

        Raises:
            DataError: When there is no canvas.
        """
        return self._test_blocks().boxes()

    def _validation_blocks(self) -> FrozenBlocks:
        return FrozenBlocks(self.source.validation, self.canvas, VALIDATION_CANVASES)

    def _test_blocks(self) -> FrozenBlocks:
        return FrozenBlocks(self.source.test, self.canvas, TEST_CANVASES)

    def on_after_batch_transfer(self, batch: tuple[Tensor, ...], dataloader_idx: int) -> tuple[Tensor, ...]:
        """Draw the training canvases, on the device that the batch has come to."""
        if self.trainer is None or not self.trainer.training:
            return batch
        images, labels, *boxes = batch
        # Lightning counts the batch that is on its way once this hook has returned.
        number = self.trainer.fit_loop.epoch_loop.batch_idx + 1
        epoch, share = self.trainer.current_epoch, share_of_this_process()
        drawn = self.draw(images, epoch, number, share)
        if not boxes:
            return drawn, labels
        return drawn, labels, self.draw_boxes(images, boxes[0], epoch, number, share)

    def draw(
        self, images: UInt8[Tensor, "batch channels height width"], epoch: int = 0, batch: int = 0, share: Share = WHOLE
    ) -> UInt8[Tensor, "batch channels canvas_height canvas_width"]:
        """Put training images onto new canvases, or jitter and augment them.

        Args:
            images: Training images, pixels in [0, 255].
            epoch: Number of the epoch, from 0. Canvases and changes follow from it, the batch's number and the seed.
            batch: Number of the batch in its epoch, from 0.
            share: The share of the batch that the images are; they get the canvases that they have in the whole batch.
        """
        generator = generator_for(images.device, self.seed, 1, epoch, batch, share=share)
        if self.canvas is None:
            moved = jittered(images, self.jitter, generator) if self.jitter else images
            return self.augmentation.draw(moved, generator)
        if self._pool is None or self._pool.device != images.device:
            self._pool = self.source.train.images.to(images.device)
        return self.canvas.draw(images, self._pool, generator)

    def draw_boxes(
        self,
        images: UInt8[Tensor, "batch channels height width"],
        boxes: Float[Tensor, "batch most 4"],
        epoch: int = 0,
        batch: int = 0,
        share: Share = WHOLE,
    ) -> Float[Tensor, "batch most 4"]:
        """Move objects' boxes as :meth:`draw` moves the images that they are of.

        Args:
            images: The training images, as :meth:`draw` gets them.
            boxes: Of these images, as in :attr:`glimpse.data.datasets.Split.boxes`.
            epoch: As the images were drawn with.
            batch: As the images were drawn with.
            share: As the images were drawn with.

        Returns:
            Fractions of the drawn images; NaN where nothing of an object is left.
        """
        height, width = images.shape[2:]
        generator = generator_for(images.device, self.seed, 1, epoch, batch, share=share)
        if self.canvas is not None:
            places = self.canvas.boxes(len(boxes), height, width, generator)
            return on_canvas(boxes, places, self.canvas.height, self.canvas.width)
        if self.jitter:
            wide = Canvas(height + 2 * self.jitter, width + 2 * self.jitter)
            places = wide.boxes(len(boxes), height, width, generator)
            boxes = on_canvas(boxes, places - self.jitter, height, width)
        return self.augmentation.draw_boxes(images, boxes, generator)
