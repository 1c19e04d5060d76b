"""From a trained model to one ONNX file that answers as it does.

The file holds the whole episode, unrolled: uint8 images in; the belief and the place of every glimpse out, with its
boxes or its attention map. Before a file is left behind it is loaded again and run in onnxruntime beside torch, on
real images.
"""

import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

import glimpse
from glimpse.contract import BOXES, CARD_KEY, INPUT, LOCATIONS, LOGITS, MAPS, PROBABILITIES, ModelCard
from glimpse.geometry import boxes
from glimpse.observer import Observer
from glimpse.runtime import GlimpseSession

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference in a probability, or in an attention weight, between the file and the model."""
TIE = 1e-5
"""Fixations that differ by less than this, in half images, and yet by a whole pixel, are a rounding tie."""
TIED_SHARE = 0.01
"""Share of the images that may have one."""


class ExportError(ValueError):
    """A file that would not answer as the model does."""


class Episode(nn.Module):
    """The deterministic episode as one graph.

    Args:
        observer: The model and its way of looking.
    """

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> tuple[Tensor, ...]:
        """The outputs that the model's card names, as :mod:`glimpse.contract` describes them."""
        trace = self.observer(images)
        outputs = [trace.logits, trace.logits.softmax(2), trace.locations]
        retina = self.observer.retina
        if retina is not None:
            height, width = images.shape[-2:]
            seen = boxes(trace.locations, height, width, retina.size, retina.num_scales, retina.zoom)
            outputs.append(torch.stack([torch.stack(tuple(box), dim=2) for box in seen], dim=2))
        if trace.maps is not None:
            outputs.append(trace.maps)
        return tuple(outputs)


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with the model that it was made from.

    Attributes:
        images: Images compared.
        difference: Largest difference in a probability, or in an attention weight, ties apart.
        ties: Images on which a fixation fell within a rounding error of two pixels, and the two chose differently.
        labels_differ: Images on which the final answer differs.
    """

    images: int
    difference: float
    ties: int
    labels_differ: int


def versions() -> dict[str, str]:
    """The versions of what makes an export."""
    return {
        "glimpse": glimpse.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }


def export_episode(
    observer: Observer, card: ModelCard, path: Path, images: UInt8[Tensor, "batch channels height width"]
) -> Parity:
    """Write a model as ONNX, and leave the file only if it answers as the model does.

    Args:
        observer: The model to write.
        card: What the file says of itself.
        path: Where to write; an existing file is replaced, and only by a good one.
        images: Real images, at least 2, on which the file is compared with the model.

    Raises:
        ExportError: When the file differs from the model by more than ``TOLERANCE`` in a probability or at all in a
            label, or can't be written.
    """
    episode = Episode(observer).eval()
    if not path.parent.is_dir():
        raise ExportError(
            f"expected a folder {path.parent} to write {path.name} into; make it first, or choose another"
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        draft = Path(folder) / path.name
        _write(episode, card, draft, images[:2])
        parity = compare(episode, draft, images)
        if not parity.difference <= TOLERANCE or parity.labels_differ or parity.ties > TIED_SHARE * parity.images:
            raise ExportError(
                f"expected the exported file to answer as the model does, within {TOLERANCE}; on {parity.images} "
                f"images it differed by up to {parity.difference:.1e}, in {parity.labels_differ} labels, and in "
                f"{parity.ties} fixations that fell between two pixels, so {path} was not written; report this "
                "together with the recipe"
            )
        draft.replace(path)
    return parity


def _write(
    episode: Episode, card: ModelCard, path: Path, example: UInt8[Tensor, "batch channels height width"]
) -> None:
    dimensions = {0: torch.export.Dim("batch", min=1)}
    if card.any_size:
        dimensions |= {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    with torch.no_grad():
        program = torch.onnx.export(
            episode,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(card.outputs),
            dynamic_shapes=(dimensions,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.to_json()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def compare(episode: Episode, path: Path, images: UInt8[Tensor, "batch channels height width"]) -> Parity:
    """Run a file and the model that it was made from on the same images.

    Args:
        episode: The model.
        path: The file.
        images: Pixels in [0, 255].
    """
    session = GlimpseSession(path)
    difference, ties, differ = 0.0, 0, 0
    for chunk in images.split(250):
        with torch.no_grad():
            outputs = (output.numpy() for output in episode(chunk))
            expected = dict(zip(session.card.outputs, outputs, strict=True))
        got = session.run(chunk.permute(0, 2, 3, 1).numpy())
        tied = np.zeros(len(chunk), dtype=bool)
        if got.boxes is not None:
            tied = _tied(expected, got.locations, got.boxes)
        distance = np.abs(expected[PROBABILITIES] - got.probabilities).max((1, 2))
        if got.maps is not None:
            distance = np.maximum(distance, np.abs(expected[MAPS] - got.maps).max((1, 2, 3)))
        difference = float(np.append(distance[~tied], difference).max())
        ties += int(tied.sum())
        differ += int((expected[LOGITS][:, -1].argmax(1) != got.probabilities[:, -1].argmax(1)).sum())
    return Parity(len(images), difference, ties, differ)


def _tied(
    expected: Mapping[str, np.ndarray],
    locations: Float[np.ndarray, "batch time 2"],
    boxes_: Float[np.ndarray, "batch time scales 4"],
) -> np.ndarray:
    """Which images have their first difference in a box, of one pixel, where the fixations agree up to rounding."""
    moved = np.abs(expected[BOXES] - boxes_).max((2, 3))
    images, first = np.arange(len(moved)), (moved > 0).argmax(1)
    distance = np.abs(expected[LOCATIONS] - locations).max(2)
    tied: np.ndarray = (moved[images, first] == 1) & (distance[images, first] < TIE)
    return tied
