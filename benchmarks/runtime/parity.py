"""Whether exported files answer as their model: ``python -m benchmarks.runtime.parity CHECKPOINT [CHECKPOINT ...]``.

Options: ``--root DIR``, ``--images N`` (the first N test images; all when left out), ``--output FILE``, ``--quick``.
Every graph, input type, precision and target, on every execution provider that is there.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.runtime.models import CPU, CUDA, Model, in_input_type, session_for, trained_model  # noqa: E402
from glimpse.contract.card import GRAPHS, INPUT_TYPES, PRECISIONS, TARGETS  # noqa: E402
from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, LOGITS, NEXT_LOCATION, NEXT_STATE, STATE  # noqa: E402
from glimpse.evaluation.evaluate import beliefs  # noqa: E402
from glimpse.export.model import LOCATION_TOLERANCE, PROBABILITY_TOLERANCE  # noqa: E402
from glimpse.export.parity import Parity, compare_with_file  # noqa: E402
from glimpse.models.hard import HardObserver  # noqa: E402
from glimpse.nn.retina import fractions  # noqa: E402

COMPUTING = {CPU: (CPU,), CUDA: (CUDA, CPU)}
"""Providers that a model is run on, each with what takes over where it has no kernel."""
BATCH = 250
QUICK_IMAGES = 40


class Form(NamedTuple):
    """A file of a model, and what runs it."""

    graph: str
    input_type: str
    precision: str
    target: str
    provider: str


def forms(available: Sequence[str], quick: bool) -> Iterator[Form]:
    """Every form of a file on every provider.

    A step graph takes glimpses, which its caller has cut, so that it has no input type; and it has one target. There is
    no int8 for GPUs.

    Args:
        available: Names of the providers that are there.
        quick: Whether three forms will do.
    """
    providers = [name for name in COMPUTING if name in available]
    every = [Form(*parts) for parts in itertools.product(GRAPHS, INPUT_TYPES, PRECISIONS, TARGETS, providers)]
    distinct = [form for form in every if form.graph != "step" or form[1::2] == (INPUT_TYPES[0], TARGETS[0])]
    distinct = [form for form in distinct if (form.precision, form.target) != ("int8", "gpu")]
    if quick:
        short = (
            ("adaptive", "uint8", "float32", "cpu"),
            ("episode", "float32", "float16", "gpu"),
            ("step", "uint8", "int8", "cpu"),
        )
        distinct = [form for form in distinct if form[:4] in short]
    yield from distinct


def answers_of(session: Any, model: Model, form: Form, images: Tensor) -> npt.NDArray[np.int64]:
    """The final answers of a file that looks where it wants to.

    Args:
        session: Of the file.
        model: Whose file it is.
        form: Which file.
        images: uint8.
    """
    found = []
    for part in images.split(BATCH):
        if form.graph == "step":
            logits = _step_by_step(session, model, part)
        else:
            (logits,) = session.run([LOGITS], {INPUT: in_input_type(part, form.input_type)})
            logits = logits[:, -1]
        found.append(logits.argmax(1))
    return np.concatenate(found)


def is_within(parity: Parity) -> bool:
    """Whether a float32 file is as near to its model as an export has to be, its share of ties apart."""
    return (
        parity.difference <= PROBABILITY_TOLERANCE
        and parity.other_difference <= LOCATION_TOLERANCE
        and not parity.labels_differ
    )


def _step_by_step(session: Any, model: Model, images: Tensor) -> Any:
    assert isinstance(model.observer, HardObserver)
    place = np.zeros((len(images), 2), np.float32)
    state = np.zeros((len(images), model.card.state_size or 0), np.float32)
    logits = None
    for _ in range(model.card.num_glimpses):
        with torch.no_grad():
            seen = model.observer.retina(fractions(images), torch.from_numpy(place)).numpy()
        given = {GLIMPSE: seen, LOCATION: place, STATE: state}
        logits, state, place = session.run([LOGITS, NEXT_STATE, NEXT_LOCATION], given)
    return logits


def parity_of(checkpoint: Path, root: str | None, count: int | None, quick: bool) -> dict[str, Any]:
    """Compare every file of a model with it.

    Args:
        checkpoint: The model.
        root: Where its data lie.
        count: How many test images; all when left out.
        quick: Whether three forms will do.
    """
    model, data = trained_model(checkpoint, root)
    blocks = list(data.test_dataloader())
    images, labels = torch.cat([pixels for pixels, _ in blocks])[:count], torch.cat([truth for _, truth in blocks])
    truth = labels[:count].numpy()
    expected = beliefs(model.observer, zip(images.split(BATCH), labels[:count].split(BATCH), strict=True))[0]
    before = float((expected[:, -1].argmax(1).numpy() != truth).mean())
    rows = []
    for form in forms(onnxruntime.get_available_providers(), quick):
        content = model.graph(form.graph, form.precision, form.input_type, form.target).SerializeToString()
        card = model.form(form.graph, form.precision, form.input_type, form.target)
        parity = compare_with_file(model.observer, card, content, images, "cuda" if form.provider == CUDA else "cpu")
        session = session_for(content, providers=COMPUTING[form.provider])
        exact = form.precision == "float32"
        rows.append(
            {
                **form._asdict(),
                "ran_on": session.get_providers()[0],
                "difference": parity.difference,
                "ties": parity.ties,
                "labels_differ": parity.labels_differ,
                "error": float((answers_of(session, model, form, images) != truth).mean()),
                "elsewhere": parity.other_difference,
                "within": is_within(parity) if exact else None,
            }
        )
    return {
        "checkpoint": checkpoint.parent.name,
        "data": model.card.data,
        "images": len(images),
        "error": before,
        "files": rows,
    }


def measure(checkpoints: Sequence[Path], root: str | None, count: int | None, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        checkpoints: The models.
        root: Where their data lie.
        count: How many test images; all when left out.
        quick: Whether a few images and files will do.
    """
    before = describe()
    available = onnxruntime.get_available_providers()
    return {
        "quick": quick,
        "machine": before,
        "providers": available,
        "left_out": [f"{name}: no provider that a model was run on" for name in available if name not in COMPUTING]
        + [f"{name}: not there" for name in COMPUTING if name not in available],
        "tolerance": PROBABILITY_TOLERANCE,
        "models": [parity_of(checkpoint, root, QUICK_IMAGES if quick else count, quick) for checkpoint in checkpoints],
        "load_average_after": describe()["load_average"],
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` found.
    """
    head = (
        f"{heading(result)}\n"
        f"providers that are there: {', '.join(result['providers'])}\nleft out: {'; '.join(result['left_out'])}"
    )
    heads = (
        "graph",
        "input",
        "precision",
        "target",
        "provider",
        "difference",
        "elsewhere",
        "ties",
        "labels",
        "error",
        "",
    )
    return "\n\n".join(
        [
            head,
            *(
                table(
                    f"{found['checkpoint']}, {found['images']} test images, error in torch {found['error']:.2%}; "
                    "largest difference of a probability, and in where it looked and what it handed on; labels that "
                    "differ, ties apart",
                    heads,
                    (
                        (
                            row["graph"],
                            row["input_type"],
                            row["precision"],
                            row["target"],
                            row["ran_on"].removesuffix("ExecutionProvider"),
                            f"{row['difference']:.1e}",
                            f"{row['elsewhere']:.1e}",
                            row["ties"],
                            row["labels_differ"],
                            f"{row['error']:.2%}",
                            {True: "within", False: "NOT WITHIN", None: ""}[row["within"]],
                        )
                        for row in found["files"]
                    ),
                )
                for found in result["models"]
            ),
        ]
    )


def main(args: Sequence[str]) -> int:
    """Measure, print, and write the figures; fail when a float32 file is outside the tolerance.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.parity", __doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="a file that training wrote")
    add_root(parser, "that of the training if left out")
    parser.add_argument("--images", type=int, metavar="N", help="the first N test images; all when left out")
    options = options_of(args, parser)
    result = measure(options.checkpoints, options.root, options.images, options.quick)
    hand_back(report(result), result, options.output)
    return int(any(row["within"] is False for found in result["models"] for row in found["files"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
