"""Quality of attention maps: whether they point at the digit, and whether their pixels decide the prediction.

``python -m benchmarks.attention.map_worth RUN [RUN ...] [--images N] [--pointing-only] [--quick] [--output FILE]``, RUN
being a folder that training wrote. All runs must have been trained on the same canvases; the first test images are
taken.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import Clock, describe, in_words, settle_threads
from benchmarks.harness.reports import hand_back, quick_remark, table

settle_threads()

import torch  # noqa: E402
from jaxtyping import Float, Int64  # noqa: E402
from torch import Tensor  # noqa: E402

from glimpse.data.held_out import generator_for  # noqa: E402
from glimpse.evaluation.attribution import centre_map, random_map, resize_map  # noqa: E402
from glimpse.evaluation.map_metrics import agreement, deletion, insertion, map_entropy, pointing_game  # noqa: E402
from glimpse.evaluation.maps import MAP_METHODS, explicit_maps, implicit_maps  # noqa: E402
from glimpse.models.observer import Observer  # noqa: E402
from glimpse.nn.retina import fractions  # noqa: E402
from glimpse.training.callbacks import LAST_FILE  # noqa: E402
from glimpse.training.checkpoint import load_with_data  # noqa: E402
from glimpse.training.classifier import ClassifierTraining  # noqa: E402

IMAGES = 300
STEPS = 32
FILL = 0.0
BATCH = 100
SEED = 0
"""Fixes the random maps, the noise of the smoothed ones, and the order of tied pixels."""
POINTING = ("pointing", "inside", "entropy")
SCORES = ("deletion", "insertion", *POINTING)
AGREEMENT = "agreement_of_explicit_and_jacobian"


class Shown(NamedTuple):
    """The images that all models classify."""

    pixels: Float[Tensor, "images channels height width"]
    """In [0, 1]."""
    labels: Int64[Tensor, " images"]
    """What they show."""
    boxes: Int64[Tensor, "images 4"]
    """Where it lies, in pixels, (left, top, right, bottom)."""

    def batches(self) -> list["Shown"]:
        """The images in batches, in their order."""
        return [Shown(*parts) for parts in zip(*(part.split(BATCH) for part in self), strict=True)]


def mass_inside(maps: Float[Tensor, "batch height width"], boxes: Int64[Tensor, "batch 4"]) -> Float[Tensor, " batch"]:
    """The share of each map's weight that lies in the box of what is to be found, in [0, 1].

    Args:
        maps: Weights of the pixels, none negative.
        boxes: In pixels, (left, top, right, bottom), right and bottom exclusive.
    """
    shares = [
        weights[top:bottom, left:right].sum() / weights.sum()
        for weights, (left, top, right, bottom) in zip(maps.double(), boxes.tolist(), strict=True)
    ]
    return torch.stack(shares)


def maps_of(observer: Observer, pixels: Float[Tensor, "batch channels height width"], seed: int) -> dict[str, Tensor]:
    """Every map of what the model answers, and the controls.

    Args:
        observer: The model.
        pixels: Images, in [0, 1].
        seed: Fixes the random map.

    Returns:
        By name, maps that each sum to one. A model that attends to nothing in particular has no explicit one.
    """
    batch, _, height, width = pixels.shape
    with torch.no_grad():
        trace = observer(pixels)
    explicit = explicit_maps(observer, trace, height, width)
    answers = trace.logits[:, -1].argmax(1)
    return {
        **({} if explicit is None else {"explicit": explicit}),
        **{method: implicit_maps(observer, pixels, answers, method) for method in MAP_METHODS},
        "random": random_map(batch, height, width, generator_for("cpu", SEED, seed)),
        "centre": centre_map(1, height, width).expand(batch, -1, -1),
    }


def pointing_scores(
    maps: Float[Tensor, "batch height width"], boxes: Int64[Tensor, "batch 4"]
) -> dict[str, Float[Tensor, " batch"]]:
    """Where a map points, and how far it is spread: the scores that need no model.

    Args:
        maps: Weights of the pixels.
        boxes: Where the digits lie, pixels.
    """
    return {
        "pointing": pointing_game(maps, boxes),
        "inside": mass_inside(maps, boxes),
        "entropy": map_entropy(maps).share,
    }


def all_scores(
    observer: Observer, shown: Shown, maps: Float[Tensor, "batch height width"], steps: int
) -> dict[str, Float[Tensor, " batch"]]:
    """Every score of one kind of maps.

    Deletion and insertion follow the probability of what the model answers to the whole image. A model with a retina
    chooses its fixations anew on each altered image.

    Args:
        observer: The model.
        shown: The images.
        maps: One for each.
        steps: Equal shares of the pixels that are deleted or inserted.
    """

    def believe(pixels: Tensor) -> Tensor:
        beliefs: Tensor = observer(pixels).logits[:, -1].float().softmax(1)
        return beliefs

    with torch.no_grad():
        answers = believe(shown.pixels).argmax(1)
    altered = (believe, shown.pixels, maps, answers, steps, FILL, SEED)
    return {
        "deletion": deletion(*altered).area,
        "insertion": insertion(*altered).area,
        **pointing_scores(maps, shown.boxes),
    }


def worth(observer: Observer, shown: Shown, steps: int) -> dict[str, Any]:
    """Score every map of a model.

    Args:
        observer: The model.
        shown: The images.
        steps: Of the curves.
    """
    found: dict[str, dict[str, list[Tensor]]] = {}
    agreements = []
    for place, batch in enumerate(shown.batches()):
        maps = maps_of(observer, batch.pixels, place)
        for name, drawn in maps.items():
            for score, values in all_scores(observer, batch, drawn, steps).items():
                found.setdefault(name, {}).setdefault(score, []).append(values)
        if "explicit" in maps:
            agreements.append(agreement(maps["explicit"], maps["jacobian"]))
    return {
        "maps": _summaries(found),
        AGREEMENT: summary(torch.cat(agreements)) if agreements else None,
        "fixations": "held for the implicit maps, anew for deletion and insertion" if observer.retina else None,
    }


def pointing(observer: Observer, shown: Shown) -> dict[str, Any]:
    """Say where the explicit map points: the mean over the glimpses, and the last glimpse's alone.

    Args:
        observer: A model that has attention weights.
        shown: The images.

    Raises:
        ValueError: When the model has none.
    """
    found: dict[str, dict[str, list[Tensor]]] = {}
    height, width = shown.pixels.shape[-2:]
    for batch in shown.batches():
        with torch.no_grad():
            weights = observer(batch.pixels).maps
        if weights is None:
            raise ValueError("expected a model with attention weights, got one without; leave out --pointing-only")
        for name, cells in (("mean over glimpses", weights.float().mean(1)), ("last glimpse", weights[:, -1].float())):
            for score, values in pointing_scores(resize_map(cells, height, width), batch.boxes).items():
                found.setdefault(name, {}).setdefault(score, []).append(values)
    return {"maps": _summaries(found)}


def summary(values: Float[Tensor, " images"]) -> dict[str, float]:
    """Mean over the images, and its standard error."""
    spread = float(values.double().std(correction=0))
    return {"mean": float(values.double().mean()), "error": spread / math.sqrt(max(1, len(values) - 1))}


def measure(runs: Sequence[Path], images: int | None, steps: int, only_pointing: bool) -> dict[str, Any]:
    """Score the maps of every run's last model.

    Args:
        runs: Folders that training wrote.
        images: How many test images, the first ones; None for all of them.
        steps: Of the curves.
        only_pointing: Whether to leave out whatever takes long.

    Raises:
        ValueError: When the runs weren't trained on the same data.
    """
    machine = describe()
    loaded = [load_with_data(run / LAST_FILE) for run in runs]
    names = {data.describe() for _, data in loaded}
    if len(names) > 1:
        raise ValueError(f"expected runs on the same data, got {'; '.join(sorted(names))}; compare them apart")
    _, data = loaded[0]
    blocks = list(data.test_dataloader())
    shown = Shown(
        fractions(torch.cat([batch for batch, _ in blocks])[:images]),
        torch.cat([labels for _, labels in blocks])[:images],
        data.test_boxes()[:images],
    )
    return {
        "seed": SEED,
        "machine": machine,
        "data": data.describe(),
        "images": len(shown.labels),
        "steps": steps,
        "fill": FILL,
        "box_share_of_image": float(_areas(shown.boxes).mean()) / shown.pixels[0, 0].numel(),
        "models": [
            {"run": run.name} | _model(training, shown, steps, only_pointing)
            for run, (training, _) in zip(runs, loaded, strict=True)
        ],
        "load_average_after": describe()["load_average"],
    }


def report(result: Mapping[str, Any]) -> str:
    """The figures in tables, mean and standard error.

    Args:
        result: What :func:`measure` found.
    """
    kept = [score for score in SCORES if score in next(iter(result["models"][0]["maps"].values()))]
    found = table(
        f"Quality of maps, mean over {result['images']} test images (standard error)",
        ("run", "map", *kept),
        (
            (model["run"], name, *(_cell(scores[score]) for score in kept))
            for model in result["models"]
            for name, scores in model["maps"].items()
        ),
    )
    notes = [
        f"{model['run']}: {model['kind']}, {model['error']:.2%} answered wrong, {model['cpu_seconds']:.0f} CPU-seconds"
        + (f"; Spearman of explicit and Jacobian {_cell(agreed)}" if (agreed := model.get(AGREEMENT)) else "")
        + (f"; fixations {held}" if (held := model.get("fixations")) else "")
        for model in result["models"]
    ]
    legend = (
        "deletion: the lower the better; insertion, pointing and inside: the higher the better; entropy: share of an "
        f"even map's; the box of a digit is {result['box_share_of_image']:.1%} of the image"
    )
    head = f"{in_words(result['machine'])}\n{result['data']}{quick_remark(result)}"
    return "\n\n".join([head, found, "\n".join([legend, *notes])])


def _model(training: ClassifierTraining, shown: Shown, steps: int, only_pointing: bool) -> dict[str, Any]:
    clock, observer = Clock(), training.observer
    clock.start()
    found = pointing(observer, shown) if only_pointing else worth(observer, shown, steps)
    clock.stop()
    with torch.no_grad():
        answers = torch.cat([observer(batch.pixels).logits[:, -1].argmax(1) for batch in shown.batches()])
    return {
        "kind": training.kind,
        "training_seed": training.seed,
        "error": float((answers != shown.labels).float().mean()),
        **found,
        "cpu_seconds": round(clock.cpu, 1),
    }


def _summaries(found: Mapping[str, Mapping[str, list[Tensor]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {score: summary(torch.cat(parts)) for score, parts in scores.items()} for name, scores in found.items()
    }


def _areas(boxes: Int64[Tensor, "images 4"]) -> Float[Tensor, " images"]:
    """Of boxes that lie on the image, pixels."""
    left, top, right, bottom = boxes.double().unbind(1)
    return (right - left) * (bottom - top)


def _cell(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3f} ({figure['error']:.3f})"


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.attention.map_worth", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"test images, the first ones (default: {IMAGES}; all of them with --pointing-only)",
    )
    parser.add_argument(
        "--pointing-only",
        action="store_true",
        help="say only where attention weights point, over all glimpses and in the last one; cheap",
    )
    options = options_of(args, parser)
    images, steps = options.images or (None if options.pointing_only else IMAGES), STEPS
    if options.quick:
        images, steps = 8, 4
    arguments = [run.name for run in options.runs]
    arguments += [f"--images {images}"] * (images is not None) + ["--pointing-only"] * options.pointing_only
    result = {
        "command": f"python -m benchmarks.attention.map_worth {' '.join(arguments)}",
        "quick": options.quick,
        **measure(options.runs, images, steps, options.pointing_only),
    }
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
