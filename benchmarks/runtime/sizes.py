"""What an image's size costs: ``python -m benchmarks.runtime.sizes [--root DIR] [--output FILE] [--quick]``.

At equal glimpses, from a file that is mapped into memory to the answer, next to a small convolutional net and a
ResNet-18 on the same images. Everything on one thread.
"""

import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.fresh_process import in_a_fresh_process
from benchmarks.harness.machine import Samples, describe, interleave, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from jaxtyping import UInt8  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.runtime.models import SEED, real_images, retina_model, session_for, untrained_card  # noqa: E402
from glimpse.contract.seal import seal  # noqa: E402
from glimpse.contract.tensors import INPUT  # noqa: E402
from glimpse.export.graph.builder import OPSET  # noqa: E402
from glimpse.export.model import build_graph  # noqa: E402
from glimpse.images.lazy import ArrayImage  # noqa: E402
from glimpse.models.cnn import ConvolutionalNet  # noqa: E402
from glimpse.models.observer import WholeImageObserver  # noqa: E402
from glimpse.nn.retina import fractions  # noqa: E402
from glimpse.runtime.session import GlimpseSession  # noqa: E402

SIDES = (64, 256, 1024, 4096, 16384)
TILE = 64
"""Side of a canvas; the images are tiled with them."""
COMPARED = (64, 4096)
TARGET = 1.2
LIMIT = 8192
"""Address space of a process, MiB: a process that needs more for an image ends with an error."""
PATIENCE = 120.0
"""Seconds after which a process is given up."""
AT_ONCE = 1.0
"""CPU seconds of a call up to which it takes turns with the others in one process."""
OURS, SMALL_NET, RESNET = "glimpses", "small convolutional net", "ResNet-18"


class Effort(NamedTuple):
    """How long all this may take."""

    sides: tuple[int, ...]
    repetitions: int
    seconds: float
    calls: int
    """In a process of its own."""


def tiled(path: Path, side: int, tiles: UInt8[np.ndarray, "tiles height width"]) -> None:
    """Write an image of real content, row of tiles by row of tiles.

    Args:
        path: A ``.npy`` file, of uint8 (side, side).
        side: A multiple of the tiles' side, pixels.
        tiles: Gone round, in an order that shifts from row to row.
    """
    image = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(side, side))
    across = side // TILE
    for row in range(across):
        chosen = tiles[(row * (across + 7) + np.arange(across)) % len(tiles)]
        image[row * TILE : (row + 1) * TILE] = chosen.transpose(1, 0, 2).reshape(TILE, side)
    image.flush()


class GreyResNet(nn.Module):
    """A ResNet-18 (He et al. 2016) as torchvision has it, that takes grey pixels and has untrained weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=10).eval()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (batch, 1, height, width) to logits."""
        logits: Tensor = self.net(fractions(images).expand(-1, 3, -1, -1))
        return logits


def write_files(folder: Path) -> dict[str, Path]:
    """Write the three models.

    Args:
        folder: Where to.
    """
    files = {name: folder / f"{place}.onnx" for place, name in enumerate((OURS, SMALL_NET, RESNET))}
    files[OURS].write_bytes(retina_model().file("adaptive"))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        net, resnet = WholeImageObserver(ConvolutionalNet(10).eval(), any_size=True), GreyResNet().eval()
    example = torch.zeros(2, 1, TILE, TILE, dtype=torch.uint8)
    graph = build_graph(net, untrained_card(net, TILE, None), example)
    files[SMALL_NET].write_bytes(seal(graph.SerializeToString()))
    with warnings.catch_warnings():
        # The exporter that traces is deprecated, and takes seconds where the other takes a minute.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            resnet,
            (example,),
            files[RESNET],
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_axes={INPUT: {0: "batch", 2: "height", 3: "width"}},
        )
    return files


def alone(files: dict[str, Path], images: dict[int, Path], calls: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Each model on each image in a process of its own, with a limit to its memory.

    A model is not tried on a larger image than the first that it did not come to an end with.

    Args:
        files: By model.
        images: By side.
        calls: How often the image is classified after the first time.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in files}
    for name, file in files.items():
        for side, image in images.items():
            kind = "glimpse" if name == OURS else "onnx"
            taken = in_a_fresh_process(kind, file, image, size="native", limit=LIMIT, calls=calls, seconds=PATIENCE)
            found[name][side] = taken
            if "ended" in taken:
                break
    return found


def in_turn(
    files: dict[str, Path], images: dict[int, Path], processes: dict[str, dict[int, dict[str, Any]]], effort: Effort
) -> dict[tuple[str, int], Samples]:
    """Each model on each image, by turns in this process; those are left out that take too long for it.

    Args:
        files: By model.
        images: By side.
        processes: What :func:`alone` found.
        effort: How long it may take.
    """
    runtime = GlimpseSession(files[OURS], threads=1)
    sessions = {name: session_for(files[name].read_bytes()) for name in (SMALL_NET, RESNET)}
    mapped = {side: np.load(path, mmap_mode="r") for side, path in images.items()}

    def answer(name: str, side: int) -> Callable[[], Any]:
        if name == OURS:
            lazy = ArrayImage(mapped[side])
            return lambda: runtime.predict_one(lazy, size="native")
        return lambda: sessions[name].run(None, {INPUT: mapped[side][None, None]})

    runs = {
        (name, side): answer(name, side)
        for name, sides in processes.items()
        for side, taken in sides.items()
        if "ended" not in taken and statistics.median(taken["cpu"]) <= AT_ONCE
    }
    names = {f"{name} {side}": (name, side) for name, side in runs}
    samples = interleave({key: runs[pair] for key, pair in names.items()}, effort.repetitions, effort.seconds)
    return {names[key]: taken for key, taken in samples.items()}


def measure(root: str | None, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        root: Where MNIST lies.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before = describe()
    effort = Effort((64, 128), 2, 0.001, 1) if quick else Effort(SIDES, 15, 0.1, 3)
    tiles, dataset = real_images(TILE, 500, root, pieces=4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {side: folder / f"{side}.npy" for side in effort.sides}
        for side, path in images.items():
            tiled(path, side, tiles[:, 0].numpy())
        files = write_files(folder)
        processes = alone(files, images, effort.calls)
        samples = in_turn(files, images, processes, effort)
    rows = []
    for model, sides in processes.items():
        for side, taken in sides.items():
            row: dict[str, Any] = {"model": model, "side": side, "ended": taken.get("ended")}
            if row["ended"] is None:
                turns, base = samples.get((model, side)), samples[model, effort.sides[0]]
                cpu = turns.median() if turns else statistics.median(taken["cpu"])
                row |= {
                    "times_smallest": turns.over(base) if turns else cpu / base.median(),
                    "cpu_milliseconds": 1e3 * cpu,
                    "by_turns": turns is not None,
                    "peak_mebibytes": taken["peak"],
                    "times_smallest_peak": taken["peak"] / sides[effort.sides[0]]["peak"],
                }
            rows.append(row)
    return {
        "quick": quick,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "data": dataset,
        "glimpses": retina_model().card.num_glimpses,
        "limit_mebibytes": LIMIT,
        "sizes": rows,
        "target": {"from": COMPARED[0], "to": COMPARED[1], "times": TARGET},
    }


def report(result: dict[str, Any]) -> str:
    """The figures in a table, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    head = heading(
        result,
        f"data: {result['data']} with clutter, tiled",
        f"{result['glimpses']} glimpses of 12x12 at three scales, one thread",
    )
    rows = [
        (
            row["model"],
            f"{row['side']}x{row['side']}",
            *(
                (
                    f"{row['times_smallest']:.3f}",
                    f"{row['cpu_milliseconds']:,.3f}{'' if row['by_turns'] else ' *'}",
                    f"{row['peak_mebibytes']:,.0f}",
                    f"{row['times_smallest_peak']:.2f}",
                )
                if row["ended"] is None
                else ("ended", "", "", "")
            ),
        )
        for row in result["sizes"]
    ]
    title = (
        f"Cost against the image's size, times that of the smallest (target: {TARGET} times from {COMPARED[0]} to "
        f"{COMPARED[1]})"
    )
    heads = ("model", "image", "times", "CPU ms", "peak MiB", "times the peak")
    ends = [
        f"{row['model']} ended at {row['side']}x{row['side']}: {row['ended']}"
        for row in result["sizes"]
        if row["ended"]
    ]
    note = (
        "* in a process of its own, not by turns. "
        f"Each process may have {result['limit_mebibytes']} MiB of address space."
    )
    return "\n".join([head, "", table(title, heads, rows), note, *ends])


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.sizes", __doc__)
    add_root(parser)
    options = options_of(args, parser)
    result = measure(options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
