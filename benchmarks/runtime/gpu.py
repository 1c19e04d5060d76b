"""Exported models on a CUDA device: ``python -m benchmarks.runtime.gpu [--checkpoint FILE] [--output FILE] [--quick]``.

Time against torch on the same device and against the processor, in turn; and what onnxruntime leaves to the processor,
as its profile tells it. Without a CUDA provider it says so and measures nothing. ``benchmarks.runtime.parity`` compares
the answers.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import describe, in_words, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

from benchmarks.runtime.models import (  # noqa: E402
    CPU,
    CUDA,
    Model,
    paper_model,
    real_images,
    retina_model,
    session_for,
    trained_model,
)
from glimpse.contract.tensors import CONFIDENCE, INPUT  # noqa: E402

BATCHES = (1, 64, 1024)
PRECISIONS = ("float32", "float16")
SURE = 0.99
RUNS = 3
"""Runs that are profiled."""
IN_TORCH = "torch, eager, on the GPU"


class Node(NamedTuple):
    """A node of a graph as it was run."""

    name: str
    kind: str
    provider: str
    times: float
    """A run: as often as there are glimpses, or a multiple of it, for those inside the step."""


def nodes_run(model: onnx.ModelProto, feeds: dict[str, npt.NDArray[Any]], providers: tuple[str, ...]) -> list[Node]:
    """Which nodes a graph comes to, and what runs each of them, as onnxruntime's profile tells it.

    Args:
        model: The graph.
        feeds: Its inputs.
        providers: Names of execution providers, the first to be preferred.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = session_for(model, providers=providers, profile=Path(folder) / "profile")
        for _ in range(RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [
        (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"], event["args"].get("provider", ""))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    return [Node(*which, count / RUNS) for which, count in Counter(kernels).items()]


def placement(model: Model, precision: str, graph: str, images: torch.Tensor, providers: tuple[str, ...]) -> Any:
    """What is not left to the first provider, and what is copied.

    Args:
        model: The model.
        precision: Of its file.
        graph: Which one.
        images: uint8.
        providers: Names of execution providers, the first to be preferred.
    """
    ran = nodes_run(model.graph(graph, precision, target="gpu"), {INPUT: images.numpy()}, providers)
    copies = [node for node in ran if node.kind.startswith("Memcpy")]
    elsewhere = [node for node in ran if node.provider != providers[0] and node not in copies]
    return {
        "graph": graph,
        "precision": precision,
        "nodes_a_run": sum(node.times for node in ran),
        "glimpses": model.card.num_glimpses,
        "elsewhere": [node._asdict() for node in elsewhere],
        "copies": [node._asdict() for node in copies],
    }


def sides_of(model: Model, images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """A model in torch on the device, and its files there and on the processor, from host memory to host memory.

    Args:
        model: The model.
        images: uint8.
    """
    observer = model.observer.eval().to("cuda")
    feeds = {INPUT: images.numpy()}

    def in_torch() -> Any:
        with torch.no_grad():
            return observer(images.to("cuda")).logits.cpu()

    def in_session(session: Any, feeds: dict[str, npt.NDArray[Any]]) -> Callable[[], Any]:
        return lambda: session.run(None, feeds)

    sides: dict[str, Callable[[], Any]] = {IN_TORCH: in_torch}
    files = {
        (graph, precision): session_for(_on_host(model, graph, precision), providers=(CUDA, CPU))
        for graph in ("adaptive", "episode")
        for precision in PRECISIONS
    }
    for (graph, precision), session in files.items():
        sides[f"{graph}, {precision}, GPU"] = in_session(session, feeds)
        if graph == "adaptive":
            early = {**feeds, CONFIDENCE: np.array(SURE, np.float32)}
            sides[f"{graph}, {precision}, GPU, until {SURE:g}"] = in_session(session, early)
    on_processor = session_for(_on_host(model, "episode", "float32", "cpu"), model.sizes if len(images) == 1 else {})
    sides["episode, float32, processor"] = in_session(on_processor, feeds)
    return sides


def _on_host(model: Model, graph: str, precision: str, target: str = "gpu") -> onnx.ModelProto:
    """A graph, made where it is always made."""
    device = model.observer.device
    model.observer.to("cpu")
    made = model.graph(graph, precision, target=target)
    model.observer.to(device)
    return made


def measure(checkpoint: Path | None, root: str | None, quick: bool) -> dict[str, Any]:
    """Measure everything, or say why not.

    Args:
        checkpoint: A trained model, besides the untrained ones.
        root: Where MNIST lies.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before, available = describe(), onnxruntime.get_available_providers()
    if CUDA not in available or not torch.cuda.is_available():
        skipped = (
            f"nothing is measured: there is no {CUDA}, only {', '.join(available)}"
            if CUDA not in available
            else "nothing is measured: torch finds no CUDA device"
        )
        return {"quick": quick, "machine": before, "skipped": skipped}
    models = {"28x28, 6 glimpses": paper_model(), "60x60, 8 glimpses, 3 scales": retina_model()}
    if checkpoint:
        models[f"{checkpoint.parent.name}, trained"] = trained_model(checkpoint, root)[0]
    tables, placed, dataset = [], [], ""
    with threads(1):
        for name, model in models.items():
            images, dataset = real_images(model.card.height, 500, root)
            for graph in ("adaptive", "episode"):
                for precision in PRECISIONS:
                    found = placement(model, precision, graph, images[: BATCHES[1]], (CUDA, CPU))
                    placed.append({"model": name, **found})
            for batch in BATCHES[:1] if quick else BATCHES:
                shown = images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch].contiguous()
                samples = interleave(sides_of(model, shown), *((2, 0.001) if quick else (15, 0.2)))
                tables.append(
                    {
                        "model": name,
                        "batch": batch,
                        "sides": [
                            {
                                "side": side,
                                "times_torch_wall": samples[IN_TORCH].over(taken, "wall"),
                                "times_torch": samples[IN_TORCH].over(taken),
                                "wall_microseconds": 1e6 * taken.median("wall"),
                                "cpu_microseconds": 1e6 * taken.median(),
                            }
                            for side, taken in samples.items()
                        ],
                    }
                )
            model.observer.to("cpu")
    return {
        "quick": quick,
        "machine": before,
        "device": torch.cuda.get_device_name(),
        "load_average_after": describe()["load_average"],
        "data": dataset,
        "tables": tables,
        "placement": placed,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    if "skipped" in result:
        return f"{in_words(result['machine'])}\n{result['skipped']}"
    return "\n\n".join(
        [
            heading(result, result["device"], f"data: {result['data']}"),
            *(
                table(
                    f"{part['model']}, a batch of {part['batch']}: times as fast as {IN_TORCH}",
                    ("", "wall", "CPU", "wall us", "CPU us"),
                    (
                        (
                            row["side"],
                            f"{row['times_torch_wall']:.2f}",
                            f"{row['times_torch']:.2f}",
                            f"{row['wall_microseconds']:,.1f}",
                            f"{row['cpu_microseconds']:,.1f}",
                        )
                        for row in part["sides"]
                    ),
                )
                for part in result["tables"]
            ),
            *(_placed(found) for found in result["placement"]),
        ]
    )


def _placed(found: dict[str, Any]) -> str:
    title = (
        f"{found['model']}, {found['graph']}, {found['precision']}: {found['nodes_a_run']:.0f} nodes a run, "
        f"{found['glimpses']} glimpses; what isn't run on the device, and what is copied"
    )
    rows = [
        (node["name"], node["kind"], node["provider"].removesuffix("ExecutionProvider"), f"{node['times']:g}")
        for node in (*found["elsewhere"], *found["copies"])
    ]
    return table(title, ("node", "kind", "runs on", "times a run"), rows or [("none", "", "", "")])


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.gpu", __doc__)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a trained model")
    add_root(parser)
    options = options_of(args, parser)
    result = measure(options.checkpoint, options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
