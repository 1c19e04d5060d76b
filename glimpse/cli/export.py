"""``glimpse export``: write a trained model as an ONNX file or a program. torch is imported when it runs."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.parser import add_checkpoint, add_root
from glimpse.cli.usage import UsageError, invocation, suggestion

if TYPE_CHECKING:
    from glimpse.contract.card import ModelCard
    from glimpse.export.checkpoint import ExportOptions
    from glimpse.export.targets.delivery import Destination

DESTINATIONS = ("triton", "kserve", "program")
NOT_OF_PROGRAMS = ("output", "graph", "type", "weights", "input", "target", "name", "storage_uri")
"""Options of an export that a program has no use for: it is the episode in float32, of uint8 pixels."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    add_checkpoint(parser)
    add_root(parser, "that of the training")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the ONNX file goes; beside the checkpoint if left out"
    )
    parser.add_argument(
        "--graph",
        choices=("adaptive", "episode", "step"),
        help="adaptive: a loop that can stop when it is sure, go on from a state and read parts of large images. "
        "episode: all glimpses in a straight line, the fastest for a fixed number. step: one glimpse, which the caller "
        "cuts. If left out, adaptive for models that look through a retina, and episode for all others, which have no "
        "other",
    )
    parser.add_argument(
        "--type",
        choices=("float32", "float16", "int8"),
        help="what it computes in: float16 for GPUs, int8 weights for a third of the size, of models that look "
        "through a retina; float32 if left out",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "float16"),
        help="float16 rounds the model's weights to it, and stores them so, for a file of about 60 %% of the size that "
        "computes in float32 as fast as ever; what is measured and compared is the rounded model. float32, which "
        "changes nothing, if left out",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        help="what it takes: pixels from 0 to 255, or from 0 to 1; uint8 if left out",
    )
    parser.add_argument(
        "--target",
        choices=("cpu", "gpu"),
        help="gpu leaves no pixel and no number of the model's to the processor; cpu has a faster cut for single "
        "images. gpu for float16, else cpu, if left out",
    )
    parser.add_argument(
        "--to",
        nargs=2,
        metavar=("KIND", "PLACE"),
        help="write for a server as well: 'triton FOLDER', a Triton model repository; 'kserve FILE', the manifest of "
        "an InferenceService over such a repository. Or 'program FILE.pt2' in place of ONNX, a torch.export program",
    )
    parser.add_argument("--name", help="what a server calls the model; the checkpoint's folder if left out")
    parser.add_argument(
        "--storage-uri", metavar="URI", help="where a cluster finds the model repository, for --to kserve"
    )
    parser.add_argument("--license", metavar="TEXT", help="under which the model may be used; it goes into the card")
    parser.add_argument(
        "--made-by",
        metavar="TEXT",
        help="how the model was made, such as the command of its training; it goes into the card",
    )


def run(args: argparse.Namespace) -> int:
    """Export a checkpoint, and print what was written and what to do next.

    Args:
        args: The arguments of :func:`add_arguments`.

    Raises:
        UsageError: When options don't go with one another.
        ValueError: One of ours, when there is nothing to export, or its outputs would differ from the model's.
    """
    from glimpse.export.checkpoint import ExportOptions, check_output, export_as_program, export_checkpoint
    from glimpse.export.targets.delivery import check_destination, deliver

    _check_applies(args)
    kind, place = args.to or ("", "")
    if kind == "program":
        place = Path(place)
        card, same = export_as_program(args.checkpoint, place, args.root, args.license, args.made_by)
        print(
            f"wrote {place} ({place.stat().st_size / 1e6:.1f} MB): {_in_words(card)}\n"
            f"compared with the model on {same.images} test images: every label is the same, outputs differ by at most "
            f"{same.difference:.0e}\n"
            "next: torch.export.load(path).module() runs it; docs/deployment.md says how"
        )
        return 0
    form = ExportOptions(
        args.graph,
        args.input or "uint8",
        args.type or "float32",
        args.target,
        args.license,
        args.weights or "float32",
        args.made_by,
    )
    if args.output is not None:
        check_output(args.output)
    destination = _destination(args, form) if kind else None
    if destination:
        check_destination(destination)
    exported = export_checkpoint(args.checkpoint, args.output, args.root, form)
    path, card, parity = exported
    compared = "probabilities and attention weights" if card.has_maps else "probabilities"
    labels = f"{parity.labels_differ} labels differ" if parity.labels_differ else "every label is the same"
    ties = f", {parity.ties} rounding ties" if card.has_retina else ""
    how = "IMAGE... --confidence 0.99 --draw looked" if card.graph == "adaptive" else "IMAGE... --draw looked"
    print(
        f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB): {_in_words(card)}\n"
        f"compared with the model on {parity.images} test images: {labels}, {compared} differ by at most "
        f"{parity.difference:.0e}{ties}"
    )
    if destination:
        made = deliver(exported, destination)
        print(f"wrote {made}, for the model {destination.name!r}; docs/deployment.md says how to serve it")
        return 0
    quoted = shlex.quote(str(path))
    print(f"next: {invocation()} inspect {quoted}\n      {invocation()} classify {quoted} {how}")
    return 0


def _check_applies(args: argparse.Namespace) -> None:
    """Reject options that the kind of export ignores, and the absence of one that it needs."""
    kind = args.to[0] if args.to else None
    if kind is not None and kind not in DESTINATIONS:
        raise UsageError(
            f"--to: expected one of {', '.join(DESTINATIONS)}, got {kind!r}{suggestion(kind, DESTINATIONS)}"
        )
    given = [name for name in NOT_OF_PROGRAMS if getattr(args, name) is not None]
    options = {name: f"--{name.replace('_', '-')}" for name in given}
    if kind == "program" and given:
        raise UsageError(
            f"expected no {options[given[0]]} with --to program, which writes the episode in float32, for uint8 "
            "pixels, to the file that --to names; leave it out"
        )
    if kind is None and "name" in given:
        raise UsageError("expected --to triton or --to kserve with --name, got none; add it, or leave --name out")
    if kind != "kserve" and "storage_uri" in given:
        raise UsageError(f"expected --to kserve with --storage-uri, got {kind or 'no --to'}; leave --storage-uri out")
    if kind == "kserve" and "storage_uri" not in given:
        raise UsageError(
            "expected --storage-uri with --to kserve, such as s3://bucket/models; it says where the cluster finds the "
            "model repository that --to triton writes"
        )


def _destination(args: argparse.Namespace, form: "ExportOptions") -> "Destination":
    """Where an export is handed on to, under the name that was given or that of the checkpoint's folder."""
    from glimpse.export.targets.delivery import Destination, check_name
    from glimpse.export.targets.ownership import DeploymentError

    kind, place = args.to
    name = args.name
    if name is None:
        name = args.checkpoint.resolve().parent.name
        try:
            check_name(kind, name)
        except DeploymentError as error:
            raise UsageError(
                f"without --name, a model is called like its checkpoint's folder: {error} with --name"
            ) from error
    return Destination(kind, Path(place), name, args.storage_uri or "", form.target == "gpu")


def _in_words(card: "ModelCard") -> str:
    glimpses = f"{card.num_glimpses} glimpse{'s' * (card.num_glimpses > 1)}"
    error = "" if card.test_error is None else f", test error {card.test_error:.2%}"
    return f"{card.model}, {card.graph} graph in {card.precision}, {glimpses}, {card.data}{error}"
