import hashlib
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from glimpse.data.batches import EpochBatches
from glimpse.data.canvas import Canvas
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from tests.support.spellings import rejected

FIRST_BLOCKS = {"digits": "01f06e757c555aa3076bc572452b791d", "mnist": "24595ff746b9b6b2b22f2819f25cdc6e"}
"""SHA-256 of the first 500 test canvases. If one of these changes, every figure measured so far is void."""

WIDE = {"validation": "79f36be43536bdd9f0524e36b4586672", "test": "c4934a9afd25ae3a126db5422b07c258"}
"""SHA-256 of all of the digits' held-out images on canvases of 44x60 pixels with 3 pieces of 7x7."""


def cluttered(dataset: str = "digits", root: str | None = None, **changes: Any) -> ImageData:
    options = {"canvas_height": 60, "canvas_width": 60, "num_pieces": 4, "piece_size": 8, "batch_size": 100}
    return ImageData(dataset, root, **(options | changes))


def everything(loader: Any) -> tuple[Tensor, Tensor]:
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_held_out_canvases_do_not_depend_on_how_one_trains():
    one = cluttered(batch_size=32, seed=1, passes=3)
    other = cluttered(batch_size=500, seed=2)
    torch.manual_seed(99)
    for name in ("val_dataloader", "test_dataloader"):
        first, second = everything(getattr(one, name)()), everything(getattr(other, name)())
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        again = everything(getattr(one, name)())
        assert torch.equal(first[0], again[0])


def test_validation_and_test_have_canvases_of_their_own():
    data = cluttered()
    (validation, _), (test, _) = everything(data.val_dataloader()), everything(data.test_dataloader())
    assert len(validation) == 200
    assert len(test) == 500
    places = [(images.flatten(2).amax(1).argmax(1) // 60).tolist() for images in (validation, test[:200])]
    assert places[0] != places[1]


@pytest.mark.parametrize("dataset", list(FIRST_BLOCKS))
def test_the_first_test_canvases_are_frozen_for_good(request, dataset):
    root = str(request.getfixturevalue("mnist_root")) if dataset == "mnist" else None
    images, labels = next(iter(cluttered(dataset, root).test_dataloader()))
    assert images.shape == (500, 1, 60, 60)
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert digest[:32] == FIRST_BLOCKS[dataset]


def test_all_held_out_canvases_that_are_not_square_are_frozen_for_good():
    data = cluttered(canvas_height=44, num_pieces=3, piece_size=7)
    drawn = {"validation": everything(data.val_dataloader()), "test": everything(data.test_dataloader())}
    digests = {part: hashlib.sha256(images.numpy().tobytes()).hexdigest()[:32] for part, (images, _) in drawn.items()}
    assert digests == WIDE


def digits_in(canvases: Tensor, boxes: Tensor) -> Tensor:
    tiles = [
        canvas[:, top:bottom, left:right]
        for canvas, (left, top, right, bottom) in zip(canvases, boxes.tolist(), strict=True)
    ]
    return torch.stack(tiles)


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_the_boxes_of_held_out_images_are_where_they_were_drawn(request, dataset):
    root = str(request.getfixturevalue("mnist_root")) if dataset == "mnist" else None
    bare = cluttered(dataset, root, canvas_height=44, num_pieces=0)
    full = cluttered(dataset, root, canvas_height=44)
    for part, boxes, loader in (
        (bare.source.validation, bare.val_boxes(), "val_dataloader"),
        (bare.source.test, bare.test_boxes(), "test_dataloader"),
    ):
        assert boxes.shape == (len(part), 4)
        canvases, _ = everything(getattr(bare, loader)())
        assert torch.equal(digits_in(canvases, boxes), part.images)
        assert torch.equal(canvases.flatten(1).sum(1), part.images.flatten(1).sum(1))
        canvases, _ = everything(getattr(full, loader)())
        assert bool((digits_in(canvases, boxes) >= part.images).all())
    assert torch.equal(full.test_boxes(), bare.test_boxes())


def test_without_a_canvas_no_box_is_known():
    for boxes in (ImageData("digits").test_boxes, ImageData("digits").val_boxes):
        with pytest.raises(DataError, match="got images without a canvas; set canvas_height and canvas_width"):
            boxes()


def test_without_a_canvas_held_out_images_are_as_they_are():
    data = ImageData("digits", batch_size=7)
    images, labels = everything(data.test_dataloader())
    assert torch.equal(images, data.source.test.images)
    assert torch.equal(labels, data.source.test.labels)


def test_a_drawn_canvas_holds_its_own_digit():
    data = cluttered(num_pieces=0)
    images, _ = everything(data.test_dataloader())
    for canvas, digit in zip(images[:50, 0], data.source.test.images[:50, 0], strict=True):
        windows = canvas.unfold(0, 24, 1).unfold(1, 24, 1)
        assert bool((windows == digit).all(3).all(2).any())


def test_training_canvases_differ_from_batch_to_batch_and_follow_from_the_seed():
    data, same, other = cluttered(seed=3), cluttered(seed=3, batch_size=9), cluttered(seed=4)
    images = data.source.train.images[:20]
    torch.manual_seed(0)
    first = data.draw(images, 1, 2)
    assert torch.equal(first, same.draw(images, 1, 2))
    for place in ((1, 3), (2, 2), (2, 1), (1, 0)):
        assert not torch.equal(first, data.draw(images, *place))
    assert not torch.equal(first, other.draw(images, 1, 2))


def test_training_clutter_comes_from_the_training_images_alone(monkeypatch):
    data = cluttered()
    pools: list[Tensor] = []
    draw = Canvas.draw

    def watched(canvas: Any, images: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
        pools.append(pool)
        drawn: Tensor = draw(canvas, images, pool, generator)
        return drawn

    monkeypatch.setattr(Canvas, "draw", watched)
    data.draw(data.source.train.images[:4])
    everything(data.test_dataloader())
    assert torch.equal(pools[0], data.source.train.images)
    assert all(torch.equal(pool, data.source.test.images) for pool in pools[1:])


def test_jitter_moves_by_a_few_pixels_and_keeps_the_size():
    data = ImageData("digits", jitter=2, batch_size=8)
    images = data.source.train.images[:200]
    moved = data.draw(images)
    assert moved.shape == images.shape
    wide = torch.nn.functional.pad(images, (2, 2, 2, 2))
    shifts = set()
    for image, around in zip(moved, wide, strict=True):
        shift = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(image, around[:, row : row + 24, column : column + 24])
        ]
        assert shift
        shifts.add(shift[0])
    assert len(shifts) == 25
    assert torch.equal(ImageData("digits", jitter=0).draw(images), images)


class Recorder(lightning.LightningModule):
    """Notes the batches that a trainer hands to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[0].clone())
        return self.weight * 1.0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch[0].clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def drawn_batch(data: ImageData, epoch: int, batch: int) -> Tensor:
    """The training batch at a place, as the data module draws it when asked directly."""
    batches = EpochBatches(len(data.source.train), data.batch_size, data.passes, data.seed)
    batches.set_epoch(epoch)
    return data.draw(data.source.train.images[list(batches)[batch]], epoch, batch)


def fit(data: ImageData, epochs: int = 2, start: str | None = None, **options: Any) -> Recorder:
    recorder = Recorder()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        limit_train_batches=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **({"enable_checkpointing": False} | options),
    )
    trainer.fit(recorder, data, ckpt_path=start)
    return recorder


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_trainer_gets_new_canvases_every_step_and_frozen_ones_to_validate():
    one, same = fit(cluttered(seed=5, batch_size=20)), fit(cluttered(seed=5, batch_size=20))
    assert len(one.seen) == 4
    assert one.seen[0].shape == (20, 1, 60, 60)
    for first, second in zip(one.seen, same.seen, strict=True):
        assert torch.equal(first, second)
    assert len({bytes(images.flatten().tolist()) for images in one.seen}) == 4
    assert torch.equal(one.validated[0], one.validated[1])
    assert torch.equal(one.validated[0], everything(cluttered().val_dataloader())[0])
    other = fit(cluttered(seed=6, batch_size=20), epochs=1)
    assert not torch.equal(other.seen[0], one.seen[0])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_batches_have_canvases_of_their_own_also_within_one_step_of_the_optimiser():
    data = cluttered(seed=5, batch_size=20)
    seen = fit(data, accumulate_grad_batches=2).seen
    for images, place in zip(seen, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        assert torch.equal(images, drawn_batch(data, *place))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_resumed_trainer_goes_on_with_the_canvases_that_an_uninterrupted_one_gets(tmp_path):
    saving = ModelCheckpoint(tmp_path, "end")
    first = fit(cluttered(batch_size=20), epochs=1, callbacks=[saving], enable_checkpointing=True).seen
    second = fit(cluttered(batch_size=20), epochs=3, start=str(tmp_path / "end.ckpt")).seen
    whole = fit(cluttered(batch_size=20), epochs=3).seen
    assert len(first) == 2
    for one, other in zip([*first, *second], whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_trainer_shows_another_order_in_each_epoch():
    seen = fit(ImageData("digits", batch_size=20, seed=1)).seen
    assert not torch.equal(seen[0], seen[2])


def test_the_data_say_their_classes_shape_and_name(tmp_path, monkeypatch):
    plain, canvas = ImageData("digits"), cluttered(canvas_width=80)
    assert plain.image_shape == [1, 24, 24]
    assert canvas.image_shape == [1, 60, 80]
    assert plain.classes == list("0123456789")
    assert plain.describe() == "digits"
    assert canvas.describe() == "digits on 60x80 canvases, 4 pieces of clutter"
    assert cluttered(num_pieces=0).describe() == "digits on 60x60 canvases"
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    folder = ImageData("folder", str(tmp_path), image_height=30, image_width=40, channels=3)
    assert folder.classes == ["ant", "bee"]
    assert folder.image_shape == [3, 30, 40]
    assert folder.describe() == tmp_path.name
    monkeypatch.chdir(tmp_path)
    assert ImageData("folder", ".").describe() == tmp_path.name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "imagenet"}, "expected --data.dataset out of digits, mnist, .*folder; got 'imagenet'; choose one"),
        ({"batch_size": 0}, r"expected --data\.batch_size of at least 1, got 0"),
        ({"passes": 0}, r"expected --data\.passes of at least 1, got 0"),
        ({"jitter": -1}, r"expected --data\.jitter of at least 0, got -1"),
        ({"seed": -1}, r"expected --data\.seed of at least 0, got -1"),
        (
            {"canvas_height": 60},
            "a canvas needs both its sides, and clutter needs a canvas; got --data.canvas_height.60",
        ),
        (
            {"num_pieces": 4},
            "clutter needs a canvas; got --data.canvas_height.0, --data.canvas_width.0, --data.num_pieces.4",
        ),
        ({"dataset": "folder", "image_width": 0}, r"expected --data\.image_width of at least 1, got 0"),
        (
            {"dataset": "mnist", "image_height": 64},
            r"expected --data\.image_height with the data set folder alone, got 64 with mnist, .*; leave it out",
        ),
        ({"image_width": 64}, r"expected --data\.image_width with the data set folder alone, got 64 with digits"),
        ({"boxes": "none"}, r"expected --data\.boxes with the data set folder alone, got none with digits"),
        ({"channels": 3}, r"expected --data\.channels with the data set folder alone, got 3 with digits"),
        (
            {"jitter": 2, "canvas_height": 60, "canvas_width": 50},
            r"expected --data\.jitter without a canvas alone, got 2 with a canvas of 60x50, .*; leave one of them out",
        ),
        (
            {"dataset": "folder", "image_width": 40},
            r"expected both --data\.image_height and --data\.image_width, or neither, got None and 40; give both",
        ),
        (
            {"dataset": "folder", "fit": "crop"},
            r"expected --data\.fit out of squash, letterbox; got 'crop'; choose one",
        ),
        ({"fit": "squash"}, r"expected --data\.fit with the data set folder alone, got squash with digits"),
        ({"dataset": "folder", "channels": 4}, r"expected --data\.channels to be 1 \(grey\) or 3 \(colour\), got 4"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options, sentence):
    with rejected(sentence, "data"):
        ImageData(**options)


@pytest.mark.parametrize(
    "options", [{"augmentation": "strong"}, {"flips": True}, {"augmentation": "mild", "jitter": 2}]
)
def test_augmentation_follows_from_seed_epoch_and_batch(options) -> None:
    data = ImageData(**options)
    images = data.source.train.images[:40]
    drawn = data.draw(images, 2, 3)
    torch.testing.assert_close(drawn, ImageData(**options).draw(images, 2, 3))
    for other in (data.draw(images, 2, 4), data.draw(images, 3, 3), ImageData(**options, seed=1).draw(images, 2, 3)):
        assert not drawn.equal(other)
    held_out, _ = next(iter(data.val_dataloader()))
    torch.testing.assert_close(held_out, data.source.validation.images)


@pytest.mark.parametrize(("option", "value"), [("augmentation", "mild"), ("flips", True), ("jitter", 3)])
def test_images_on_canvases_are_not_changed_otherwise(option, value) -> None:
    with pytest.raises(
        DataError, match=rf"expected {option} without a canvas alone, got {value} with a canvas of 40x50"
    ):
        ImageData(canvas_height=40, canvas_width=50, **{option: value})


def test_training_images_are_counted_by_class() -> None:
    data = ImageData()
    assert data.class_counts.tolist() == [int((data.source.train.labels == label).sum()) for label in range(10)]
