"""Speed of exported models: ``python -m benchmarks.runtime.speed [--reference DIR] [--checkpoint FILE]``.

Options as well: ``--root DIR``, ``--output FILE``, ``--quick``. DIR is a checkout of the reference implementation in
PyTorch, FILE a trained mnist-28. All sides of a table take turns within one run, on one thread.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import Samples, describe, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import onnx  # noqa: E402
import torch  # noqa: E402

from benchmarks.runtime.models import Model, paper_model, real_images, session_for, trained_model  # noqa: E402
from benchmarks.runtime.product_chain import chain_of, multiply_accumulates, optimised, products_of  # noqa: E402
from benchmarks.runtime.reference import MISSING, NAME, reference_episode  # noqa: E402
from glimpse.contract.seal import seal  # noqa: E402
from glimpse.contract.tensors import INPUT, LOGITS  # noqa: E402
from glimpse.runtime.session import GlimpseSession  # noqa: E402

BATCHES = (1, 64)
TARGETS = {"times_reference": 7.0, "share_of_products": 0.75, "predict_one": 1.15}
LOGITS_ONLY, EPISODE, ADAPTIVE = "episode, logits alone", "episode, all outputs", "adaptive, all outputs"
PREDICT = {1: "predict_one, episode", 64: "predict, episode"}
"""The documented method for a batch of this size."""
Sides = dict[str, Callable[[], Any]]


def torch_sides(model: Model, images: torch.Tensor, compiled: bool) -> Sides:
    """Our model in torch.

    Args:
        model: The model.
        images: uint8.
        compiled: Whether to compile it as well, which takes a minute.
    """
    observer = model.observer.eval()

    def in_torch(look: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return look(images)

        return run

    sides = {"ours, eager": in_torch(observer)}
    if compiled:
        sides["ours, torch.compile"] = in_torch(torch.compile(observer, dynamic=False))
    return sides


def graphs_of(model: Model) -> dict[str, onnx.ModelProto]:
    """The files of a model that are timed, by side.

    Args:
        model: The model.
    """
    return {
        LOGITS_ONLY: model.graph(outputs=(LOGITS,)),
        EPISODE: model.graph(),
        ADAPTIVE: model.graph("adaptive"),
        f"{LOGITS_ONLY}, int8": model.graph(precision="int8", outputs=(LOGITS,)),
    }


def exported_sides(
    model: Model, graphs: Mapping[str, onnx.ModelProto], images: torch.Tensor, folder: Path, name: str = ""
) -> Sides:
    """Our model as files. One image goes to sessions that know its size beforehand.

    Args:
        model: The model.
        graphs: Its files.
        images: uint8, of the model's own size.
        folder: For the file that the runtime opens.
        name: What it is called, ahead of each side.
    """
    feeds = {INPUT: images.numpy()}
    alone = len(images) == 1

    def in_session(side: str) -> Callable[[], Any]:
        reuse = not (alone and side.startswith(LOGITS_ONLY))
        session = session_for(graphs[side], model.sizes if alone else {}, reuse=reuse)
        return lambda: session.run(None, feeds)

    path = folder / f"model-{name.strip(', ')}.onnx"
    path.write_bytes(seal(graphs[ADAPTIVE].SerializeToString()))
    runtime = GlimpseSession(path, threads=1)
    canvases = images.permute(0, 2, 3, 1).contiguous().numpy()
    sides = {f"{name}{side}": in_session(side) for side in graphs}
    episode = folder / f"episode-{name.strip(', ')}.onnx"
    episode.write_bytes(seal(graphs[EPISODE].SerializeToString()))
    documented = GlimpseSession(episode, threads=1)
    predict = (lambda: documented.predict_one(canvases[0])) if alone else (lambda: documented.predict(canvases))
    return {
        **sides,
        f"{name}GlimpseSession.run, adaptive": lambda: runtime.run(canvases),
        f"{name}{PREDICT[1 if alone else 64]}": predict,
    }


def products_side(model: Model, episode: onnx.ModelProto) -> tuple[Callable[[], Any], dict[str, int]]:
    """The products of the episode alone, for one image, and how many they are.

    Args:
        model: The model.
        episode: Its graph with the logits as the only output.

    Raises:
        ValueError: When onnxruntime would compute other products than the episode's.
    """
    chain = chain_of(optimised(episode, model.sizes))
    left = products_of(optimised(chain.model, {}))
    if (len(left), multiply_accumulates(left)) != (chain.products, chain.multiply_accumulates):
        raise ValueError(
            f"expected onnxruntime to compute the {chain.products} products of the episode, it computes {len(left)}; "
            "it merged some or computed them beforehand"
        )
    session = session_for(chain.model, reuse=False)
    counts = {
        "products": chain.products,
        "multiply_accumulates": chain.multiply_accumulates,
        "multiply_accumulates_of_the_model": model.card.multiply_accumulates[-1],
    }
    return lambda: session.run(None, chain.feeds), counts


def compared(samples: Mapping[str, Samples], reference: str) -> list[dict[str, Any]]:
    """Each side's time, and how many times faster than the reference it is.

    Args:
        samples: By side.
        reference: One of the sides.
    """
    return [
        {
            "side": name,
            "times_reference": samples[reference].over(taken),
            "times_reference_wall": samples[reference].over(taken, "wall"),
            "cpu_microseconds": 1e6 * taken.median(),
            "wall_microseconds": 1e6 * taken.median("wall"),
        }
        for name, taken in samples.items()
    ]


def measure(checkout: Path | None, checkpoint: Path | None, root: str | None, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        checkout: Of the reference implementation in PyTorch.
        checkpoint: A trained mnist-28.
        root: Where MNIST lies.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before, effort = describe(), (2, 0.001) if quick else (15, 0.2)
    model = paper_model()
    models = {"": model} | ({"recipe, ": trained_model(checkpoint, root)[0]} if checkpoint else {})
    graphs = {name: graphs_of(each) for name, each in models.items()}
    tables, shares, overheads, dataset = [], [], [], ""
    with threads(1), tempfile.TemporaryDirectory() as folder:
        for batch in BATCHES:
            images, dataset = real_images(28, batch, root)
            sides: Sides = {NAME: reference_episode(checkout, images)} if checkout else {}
            sides |= torch_sides(model, images, compiled=not quick)
            counts = {}
            for name, each in models.items():
                shown = real_images(each.card.height, batch, root)[0]
                sides |= exported_sides(each, graphs[name], shown, Path(folder), name)
                if batch == 1:
                    sides[f"{name}products alone"], counts[name] = products_side(each, graphs[name][LOGITS_ONLY])
            samples = interleave(sides, *effort)
            base = NAME if checkout else "ours, eager"
            tables.append({"batch": batch, "reference": base, "sides": compared(samples, base)})
            overheads += [
                {
                    "side": f"{name}{PREDICT[batch]}",
                    "times_session": 1 / samples[f"{name}{EPISODE}"].over(samples[f"{name}{PREDICT[batch]}"]),
                }
                for name in models
            ]
            shares += [
                {
                    "model": name.strip(", ") or "the paper's",
                    "share": samples[f"{name}products alone"].over(samples[f"{name}{LOGITS_ONLY}"]),
                    "share_wall": samples[f"{name}products alone"].over(samples[f"{name}{LOGITS_ONLY}"], "wall"),
                    **count,
                }
                for name, count in counts.items()
            ]
    return {
        "quick": quick,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "data": dataset,
        "left_out": [
            *((MISSING,) if not checkout else ()),
            *(("left out: the shipped recipe; name a trained mnist-28 with --checkpoint",) if not checkpoint else ()),
            *(("left out: torch.compile, which takes a minute, of a quick run",) if quick else ()),
        ],
        "tables": tables,
        "shares": shares,
        "overheads": overheads,
        "targets": TARGETS,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    head = heading(result, f"data: {result['data']}", "28x28, 6 glimpses of 8x8, one thread")
    return "\n\n".join(
        [
            "\n".join([head, *result["left_out"]]),
            *(
                table(
                    f"A batch of {part['batch']}: times as fast as {part['reference']}",
                    ("", "CPU", "wall", "CPU us", "wall us"),
                    (
                        (
                            row["side"],
                            f"{row['times_reference']:.2f}",
                            f"{row['times_reference_wall']:.2f}",
                            f"{row['cpu_microseconds']:,.1f}",
                            f"{row['wall_microseconds']:,.1f}",
                        )
                        for row in part["sides"]
                    ),
                )
                for part in result["tables"]
            ),
            table(
                f"CPU time of the documented method / of the plain session on the same file (target for one image "
                f"{TARGETS['predict_one']})",
                ("", "times"),
                ((row["side"], f"{row['times_session']:.3f}") for row in result["overheads"]),
            ),
            table(
                f"Time of the matrix products alone / time of the episode, logits alone (target "
                f"{TARGETS['share_of_products']:.0%})",
                ("model", "CPU", "wall", "products", "multiply-accumulates", "of the model"),
                (
                    (
                        row["model"],
                        f"{row['share']:.1%}",
                        f"{row['share_wall']:.1%}",
                        row["products"],
                        f"{row['multiply_accumulates']:,}",
                        f"{row['multiply_accumulates_of_the_model']:,}",
                    )
                    for row in result["shares"]
                ),
            ),
        ]
    )


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.speed", __doc__)
    parser.add_argument("--reference", type=Path, metavar="DIR", help=f"a checkout of github.com/{NAME}")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a trained mnist-28")
    add_root(parser)
    options = options_of(args, parser)
    result = measure(options.reference, options.checkpoint, options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
