"""The models and files that the benchmarks of the runtime are about, and sessions to run them in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from glimpse.contract.card import ModelCard
from glimpse.contract.seal import seal
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from glimpse.evaluation.calibration import budget_table, fit_temperature
from glimpse.evaluation.evaluate import beliefs, costs_of
from glimpse.export.checkpoint import card_of
from glimpse.export.graph.fragment import state_sizes
from glimpse.export.model import build_graph, versions
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.models.observer import Observer
from glimpse.nn.retina import Retina
from glimpse.runtime.providers import PROVIDERS
from glimpse.training.checkpoint import load_with_data

SEED = 0
"""Seed of untrained weights."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class Model:
    """A model and what its files say of themselves.

    Attributes:
        observer: The model.
        card: That of its adaptive graph.
    """

    observer: Observer
    card: ModelCard

    def graph(
        self,
        graph: str = "episode",
        precision: str = "float32",
        input_type: str = "uint8",
        target: str = "cpu",
        outputs: tuple[str, ...] | None = None,
    ) -> onnx.ModelProto:
        """One of its graphs, see :func:`glimpse.export.model.build`.

        Args:
            graph: Which one.
            precision: What it computes in.
            input_type: What it takes.
            target: What it is to run on.
            outputs: Names of those that are wanted; all of them when left out.
        """
        channels, height, width = self.image_shape
        examples = torch.zeros(2, channels, height, width, dtype=torch.uint8)
        return build_graph(self.observer, self.form(graph, precision, input_type, target), examples, outputs)

    def form(self, graph: str, precision: str = "float32", input_type: str = "uint8", target: str = "cpu") -> ModelCard:
        """The card of one of its graphs."""
        return replace(
            self.card,
            graph=graph,
            precision=precision,
            input_type=input_type,
            target=target,
            state_size=None if graph == "episode" else self.card.state_size,
        )

    def file(self, graph: str = "adaptive") -> bytes:
        """One of its graphs as a file that a ``GlimpseSession`` opens."""
        return seal(self.graph(graph).SerializeToString())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        return self.card.channels, self.card.height, self.card.width

    @property
    def sizes(self) -> dict[str, int]:
        """What the named dimensions of its graphs are for one image."""
        return {"batch": 1, "height": self.card.height, "width": self.card.width}


def paper_model() -> Model:
    """The model of Mnih et al. (2014) for 28x28 images, 6 glimpses of 8x8 at one scale, untrained."""
    return untrained(28, glimpse_size=8, num_scales=1, num_glimpses=6, combine="add", core="plain", gaze="nothing")


def retina_model() -> Model:
    """The model of the recipe cluttered-60-8, 8 glimpses of 12x12 at three scales, untrained."""
    return untrained(60, glimpse_size=12, num_scales=3, num_glimpses=8)


def untrained(side: int, *, glimpse_size: int, num_scales: int, num_glimpses: int, **options: Any) -> Model:
    """A model whose gaze wanders, but that has learnt nothing.

    Args:
        side: Of its images, pixels.
        glimpse_size: Side of a glimpse, pixels.
        num_scales: Windows in a glimpse.
        num_glimpses: Glimpses in an episode.
        options: Further arguments of ``HardAttention``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = HardAttention(10, 1, glimpse_size, num_scales, **options).eval()
        for parameter in model.get_submodule("policy").parameters():
            # A bias of zero, which no trained policy has, would be left out of the graph.
            nn.init.normal_(parameter, std=2 / parameter.shape[1] ** 0.5 if parameter.ndim == 2 else 0.01)
    model.mean.fill_(0.1)
    model.std.fill_(0.3)
    observer = HardObserver(model, Retina(glimpse_size, num_scales), num_glimpses)
    return Model(observer, untrained_card(observer, side, state_size=sum(state_sizes(model))))


def untrained_card(observer: Observer, side: int, state_size: int | None) -> ModelCard:
    """The card of an untrained model of grey square images.

    Args:
        observer: The model.
        side: Of its images, pixels.
        state_size: Length of its state; None for one without a retina.
    """
    retina = observer.retina
    return ModelCard(
        model="hard" if retina else "cnn",
        graph="adaptive" if retina else "episode",
        classes=tuple("0123456789"),
        channels=1,
        height=side,
        width=side,
        num_glimpses=observer.num_glimpses,
        glimpse_size=retina.size if retina else None,
        num_scales=retina.num_scales if retina else None,
        zoom=retina.zoom if retina else None,
        has_maps=False,
        any_size=True,
        data="none: untrained",
        recipe={},
        versions=versions(),
        state_size=state_size,
        multiply_accumulates=costs_of(observer, (1, side, side)),
        parameters=sum(parameter.numel() for parameter in observer.parameters()),
    )


def trained_model(checkpoint: Path, root: str | None = None) -> tuple[Model, ImageData]:
    """A trained model as ``glimpse export`` describes it, and its data.

    Args:
        checkpoint: A file that training wrote.
        root: Where the data lie, when not where they lay in training.
    """
    training, data = load_with_data(checkpoint, root)
    logits, labels = beliefs(training.observer, data.val_dataloader())
    card = card_of(training, data)
    temperature = fit_temperature(logits, labels)
    budgets = budget_table(logits, labels, temperature, card.multiply_accumulates)
    return Model(training.observer, replace(card, temperature=temperature, budgets=budgets)), data


def real_images(side: int, count: int, root: str | None, pieces: int = 0) -> tuple[Tensor, str]:
    """Test images, uint8 (count, 1, side, side), and the name of the data set that they are from.

    Args:
        side: Of the canvases, pixels.
        count: How many.
        root: Where MNIST lies; without it the embedded digits stand in.
        pieces: Of clutter.
    """
    dataset = available_dataset(root)
    data = ImageData(dataset, root, canvas_height=side, canvas_width=side, num_pieces=pieces)
    data.setup()
    return next(iter(data.test_dataloader()))[0][:count], dataset


def available_dataset(root: str | None) -> str:
    """``mnist`` where it is found, else the embedded ``digits``."""
    try:
        _ = ImageData("mnist", root).source
    except DataError:
        return "digits"
    return "mnist"


def session_for(
    model: onnx.ModelProto | bytes,
    sizes: Mapping[str, int] | None = None,
    *,
    reuse: bool = True,
    providers: tuple[str, ...] = (CPU,),
    profile: Path | None = None,
) -> Any:
    """A graph in onnxruntime, on one thread that does not spin.

    Args:
        model: The graph.
        sizes: What its named dimensions are, where that is known.
        reuse: Whether results may lie where earlier ones lay.
        providers: Names of execution providers, the first to be preferred.
        profile: Where to write a profile, without its ending.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    options.enable_mem_reuse = reuse
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    settings = {provider.name: provider.options for provider in PROVIDERS.values()}
    return onnxruntime.InferenceSession(content, options, providers=[(name, settings[name]) for name in providers])


def in_input_type(pixels: Tensor, input_type: str) -> npt.NDArray[Any]:
    """uint8 pixels as a graph of this input type takes them."""
    return pixels.numpy() if input_type == "uint8" else pixels.numpy().astype(np.float32) / np.float32(255)
