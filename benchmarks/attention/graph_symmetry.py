"""Is the graph of a trained self-attention model symmetric, as an undirected graph would have it?

``python -m benchmarks.attention.graph_symmetry RUN [--images N] [--quick] [--output FILE]``, RUN being the folder that
training wrote. Only the edges between patches count: the class node gathers from the patches, and is not one of them.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, in_words, settle_threads
from benchmarks.harness.reports import hand_back, table

settle_threads()

import torch  # noqa: E402
from jaxtyping import Float, UInt8  # noqa: E402
from torch import Tensor  # noqa: E402

from glimpse.data.held_out import generator_for  # noqa: E402
from glimpse.evaluation.map_metrics import agreement  # noqa: E402
from glimpse.models.self_attention import SelfAttention  # noqa: E402
from glimpse.nn.attention import rollout_attention  # noqa: E402
from glimpse.training.callbacks import LAST_FILE  # noqa: E402
from glimpse.training.checkpoint import load_with_data  # noqa: E402
from glimpse.training.classifier import ClassifierTraining  # noqa: E402

MEASURES = ("asymmetry", "one_way", "pearson", "spearman")
MODELS = ("trained", "untrained")
IMAGES = 1000
BATCH = 100
SEED = 0
"""Fixes the untrained weights and the shuffled entries."""
SHUFFLED = 2
"""The place of the shuffled entries' random stream among those of one seed."""
ALMOST_NONE = 0.05
"""Share of the weight that may go one way alone in a graph that is called symmetric."""


def symmetry(graph: Float[Tensor, "batch nodes nodes"]) -> dict[str, Float[Tensor, " batch"]]:
    """Measure how symmetric each weighted graph is.

    Args:
        graph: Weights of the edges, none negative; the node that gathers first.

    Returns:
        asymmetry: ``||A - A^T|| / ||A||`` (Frobenius), from 0, symmetric, to the root of 2, no edge having a weight in
        both directions. one_way: ``sum |a_ij - a_ji| / sum (a_ij + a_ji)`` over the pairs, in [0, 1]: the share of the
        weight between two nodes that the other direction doesn't return. pearson and spearman: correlation of a_ij with
        a_ji, each pair counted both ways round, so that how the nodes are numbered doesn't matter, in [-1, 1]; 1 for a
        symmetric graph, and 0 for one in which all weights are equal.
    """
    graph = graph.double()
    opposite = graph.transpose(1, 2)
    there, back = _edges(graph), _edges(opposite)
    difference = (graph - opposite).flatten(1)
    return {
        "asymmetry": difference.norm(dim=1) / graph.flatten(1).norm(dim=1),
        "one_way": difference.abs().sum(1) / (there + back).sum(1),
        "pearson": _correlation(there, back),
        "spearman": agreement(there.float().unsqueeze(1), back.float().unsqueeze(1)).double(),
    }


def shuffled(
    graph: Float[Tensor, "batch nodes nodes"], generator: torch.Generator
) -> Float[Tensor, "batch nodes nodes"]:
    """Control: the same weights on other edges, so that none knows of its opposite; loops stay where they are."""
    edges = _edges(graph)
    order = torch.rand(edges.shape, generator=generator).argsort(1)
    mixed = graph.clone()
    mixed[:, _between(graph.shape[1])] = edges.gather(1, order)
    return mixed


def graphs(model: SelfAttention, images: UInt8[Tensor, "batch channels height width"]) -> dict[str, Tensor]:
    """The weights between patches that images lead to, by layer and head, and rolled out over the layers.

    Args:
        model: The model.
        images: What it looks at.
    """
    with torch.no_grad():
        weights = model(images).weights
    found = {
        f"layer {layer}, head {head}": heads[:, head - 1]
        for layer, heads in enumerate(weights, 1)
        for head in range(1, heads.shape[1] + 1)
    }
    found["roll-out"] = rollout_attention(weights)
    return {name: graph[:, 1:, 1:] for name, graph in found.items()}


def untrained(training: ClassifierTraining) -> ClassifierTraining:
    """A model of the same options, untrained, with the same normalisation of pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = type(training)(**training.hparams)
    model = training.observer.model
    fresh.normalise_by(model.get_buffer("mean"), model.get_buffer("std"))
    return fresh.eval()


def measured(model: SelfAttention, images: UInt8[Tensor, "images channels height width"]) -> list[dict[str, Any]]:
    """Measure a model's graphs, and the same with their entries shuffled: a row for each.

    Args:
        model: The model.
        images: What it looks at.
    """
    found: dict[tuple[str, bool], list[dict[str, Tensor]]] = {}
    generator = generator_for("cpu", SEED, SHUFFLED)
    for batch in images.split(BATCH):
        for name, graph in graphs(model, batch).items():
            found.setdefault((name, False), []).append(symmetry(graph))
            found.setdefault((name, True), []).append(symmetry(shuffled(graph, generator)))
    return [
        {"graph": name, "shuffled": mixed}
        | {measure: _summary(torch.cat([part[measure] for part in parts])) for measure in MEASURES}
        for (name, mixed), parts in found.items()
    ]


def measure(run: Path, images: int) -> dict[str, Any]:
    """Measure a run's model beside an untrained one.

    Args:
        run: The folder that training wrote.
        images: How many test images, the first ones.

    Raises:
        ValueError: When the run's model has no graph.
    """
    machine = describe()
    training, data = load_with_data(run / LAST_FILE)
    if training.kind != "self":
        raise ValueError(f"expected a run of the family self, whose weights are a graph, got {training.kind}; give one")
    shown = torch.cat([batch for batch, _ in data.test_dataloader()])[:images]
    models = dict(zip(MODELS, (training, untrained(training)), strict=True))
    return {
        "run": run.name,
        "seed": SEED,
        "machine": machine,
        "data": data.describe(),
        "images": len(shown),
        "options": {name: training.hparams[name] for name in ("patch", "features", "heads", "layers", "stem")},
        **{name: measured(model.observer.model, shown) for name, model in models.items()},  # type: ignore[arg-type]
        "load_average_after": describe()["load_average"],
    }


def verdict(result: Mapping[str, Any]) -> str:
    """What the numbers say of the trained graph, in words.

    Args:
        result: What :func:`measure` found.
    """
    own, mixed, first = (
        [row for row in result[model] if row["shuffled"] is kind]
        for model, kind in (("trained", False), ("trained", True), ("untrained", False))
    )
    own_ranges, first_ranges = (
        {kind: _range([row[kind]["mean"] for row in rows], ".0%" if kind == "one_way" else ".2f") for kind in MEASURES}
        for rows in (own, first)
    )
    relative = [row["asymmetry"]["mean"] / of["asymmetry"]["mean"] for row, of in zip(own, mixed, strict=True)]
    symmetric = max(row["one_way"]["mean"] for row in own) < ALMOST_NONE
    return (
        f"The trained graph is {'as good as' if symmetric else 'not'} symmetric. Of the weight between two patches "
        f"{own_ranges['one_way']} goes one way alone ({first_ranges['one_way']} in the untrained model). Its "
        f"asymmetry is {_range(relative, '.2f')} times that of the same weights on shuffled edges (0: symmetric, 1: as "
        f"if no edge knew of its opposite). An edge's weight correlates with its opposite's by "
        f"{own_ranges['pearson']}, its rank by {own_ranges['spearman']} (untrained: {first_ranges['pearson']} and "
        f"{first_ranges['spearman']})."
    )


def report(result: Mapping[str, Any]) -> str:
    """The figures in a table, and what they say.

    Args:
        result: What :func:`measure` found.
    """
    found = table(
        f"Symmetry of the graph between patches, mean over {result['images']} test images (spread over them)",
        ("graph", "model", "asymmetry", "one way", "Pearson", "Spearman"),
        (
            (
                row["graph"],
                name + ", shuffled" * row["shuffled"],
                *(f"{row[measure]['mean']:.3f} ({row[measure]['spread']:.3f})" for measure in MEASURES),
            )
            for name in MODELS
            for row in result[name]
        ),
    )
    heading = f"{in_words(result['machine'])}\n{result['run']}: {result['data']}; {result['options']}"
    return "\n\n".join([heading, found, verdict(result)])


def _between(nodes: int) -> Tensor:
    """Where a matrix holds edges between two nodes, and no loop."""
    return ~torch.eye(nodes, dtype=torch.bool)


def _edges(graph: Float[Tensor, "batch nodes nodes"]) -> Float[Tensor, "batch edges"]:
    edges: Tensor = graph[:, _between(graph.shape[1])]
    return edges


def _correlation(values: Float[Tensor, "batch edges"], others: Float[Tensor, "batch edges"]) -> Float[Tensor, " batch"]:
    """Pearson's; 0 where a side doesn't vary."""
    values, others = values - values.mean(1, keepdim=True), others - others.mean(1, keepdim=True)
    size = values.norm(dim=1) * others.norm(dim=1)
    return torch.where(size > 0, (values * others).sum(1) / size.where(size > 0, 1), 0.0)


def _summary(values: Float[Tensor, " images"]) -> dict[str, float]:
    return {"mean": float(values.mean()), "spread": float(values.std(correction=0))}


def _range(values: Sequence[float], form: str) -> str:
    """From the least to the largest, in one form."""
    least, largest = format(min(values), form), format(max(values), form)
    return least if least == largest else f"{least} to {largest}"


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.attention.graph_symmetry", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of self-attention")
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"test images (default: {IMAGES})")
    options = options_of(args, parser)
    images = 20 if options.quick else options.images
    command = f"python -m benchmarks.attention.graph_symmetry {options.run.name} --images {images}"
    result = {"command": command, "quick": options.quick, **measure(options.run, images)}
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
