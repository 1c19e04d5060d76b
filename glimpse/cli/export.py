"""``glimpse export``: write a trained model as an ONNX file or a program. torch is imported when it runs."""

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.parser import CommandParser, add_checkpoint, add_root, options_by_argument
from glimpse.cli.usage import UsageError, invocation
from glimpse.errors import suggestion
from glimpse.export.targets import EXPORT_TARGETS, DeploymentError, Target, TargetOption, find_target

if TYPE_CHECKING:
    from glimpse.contract.card import ModelCard
    from glimpse.export.checkpoint import ExportOptions

PROGRAM_KIND = "program"
"""A value of ``--to`` that is no target: a program of torch.export is written in place of the ONNX file."""
EXPORT_KINDS = (*EXPORT_TARGETS, PROGRAM_KIND)
TARGET_OPTIONS: dict[str, TargetOption] = {
    option.name: option for target in EXPORT_TARGETS.values() for option in target.options
}
"""Options that only some targets take, and that these need."""
NOT_OF_PROGRAMS = ("output", "graph", "precision", "weights", "input_type", "target", "name", *TARGET_OPTIONS)
"""Arguments of an export that do not apply to a program, which is the episode in float32, of uint8 pixels."""


def add_arguments(parser: CommandParser) -> None:
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
        dest="precision",
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
        dest="input_type",
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
        help="write for a server as well: "
        + "; ".join(f"'{kind} {target.place_metavar}', {target.summary}" for kind, target in EXPORT_TARGETS.items())
        + f". Or '{PROGRAM_KIND} FILE.pt2' in place of ONNX, a torch.export program",
    )
    parser.add_argument("--name", help="what a server calls the model; the checkpoint's folder if left out")
    for option in TARGET_OPTIONS.values():
        parser.add_argument(
            f"--{option.name.replace('_', '-')}",
            metavar=option.metavar,
            help=f"{option.meaning}, for {_any_of(_takers(option.name))}",
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

    _check_applies(args)
    if args.to and args.to[0] == PROGRAM_KIND:
        place = Path(args.to[1])
        card, same = export_as_program(args.checkpoint, place, args.root, args.license, args.made_by)
        print(
            f"wrote {place} ({place.stat().st_size / 1e6:.1f} MB): {_in_words(card)}\n"
            f"compared with the model on {same.images} test images: every label is the same, outputs differ by at most "
            f"{same.difference:.0e}\n"
            "next: torch.export.load(path).module() runs it; docs/deployment.md says how"
        )
        return 0
    options = ExportOptions(
        args.graph,
        args.input_type or "uint8",
        args.precision or "float32",
        args.target,
        args.license,
        args.weights or "float32",
        args.made_by,
    )
    if args.output is not None:
        check_output(args.output)
    target = _target(args, options) if args.to else None
    if target:
        target.check()
    path, card, parity = export_checkpoint(args.checkpoint, args.output, args.root, options)
    compared = "probabilities and attention weights" if card.has_maps else "probabilities"
    labels = f"{parity.labels_differ} labels differ" if parity.labels_differ else "every label is the same"
    ties = f", {parity.ties} rounding ties" if card.has_retina else ""
    how = "IMAGE... --confidence 0.99 --draw looked" if card.graph == "adaptive" else "IMAGE... --draw looked"
    print(
        f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB): {_in_words(card)}\n"
        f"compared with the model on {parity.images} test images: {labels}, {compared} differ by at most "
        f"{parity.difference:.0e}{ties}"
    )
    if target:
        written = target.deliver(path, card)
        print(f"wrote {written}, for the model {target.name!r}; docs/deployment.md says how to serve it")
        return 0
    quoted = shlex.quote(str(path))
    print(f"next: {invocation()} inspect {quoted}\n      {invocation()} classify {quoted} {how}")
    return 0


def _check_applies(args: argparse.Namespace) -> None:
    """Reject options of an export that would have no effect, and an export that lacks an option.

    Raises:
        UsageError: When ``--to`` names no target, or the options do not go with it.
    """
    kind = args.to[0] if args.to else None
    if kind is not None and kind not in EXPORT_KINDS:
        hint = suggestion(kind, EXPORT_KINDS)
        raise UsageError(f"--to: expected one of {', '.join(EXPORT_KINDS)}, got {kind!r}{hint}")
    given = [name for name in NOT_OF_PROGRAMS if getattr(args, name) is not None]
    if kind == PROGRAM_KIND and given:
        raise UsageError(
            f"expected no {_flag(given[0])} with --to program, which writes the episode in float32, for uint8 "
            "pixels, to the file that --to names; leave it out"
        )
    if kind is None and "name" in given:
        raise UsageError(f"expected {_any_of(EXPORT_TARGETS)} with --name, got none; add it, or leave --name out")
    for name, option in TARGET_OPTIONS.items():
        takers, flag = _takers(name), _flag(name)
        if kind not in takers and name in given:
            raise UsageError(f"expected {_any_of(takers)} with {flag}, got {kind or 'no --to'}; leave {flag} out")
        if kind in takers and name not in given:
            raise UsageError(f"expected {flag} with --to {kind}, such as {option.example}; {option.reason}")


def _takers(option: str) -> list[str]:
    """The names of the targets that take an option."""
    return [kind for kind, target in EXPORT_TARGETS.items() if any(taken.name == option for taken in target.options)]


def _any_of(kinds: Iterable[str]) -> str:
    return " or ".join(f"--to {kind}" for kind in kinds)


def _flag(name: str) -> str:
    """The option that sets an argument."""
    return options_by_argument(add_arguments)[name]


def _target(args: argparse.Namespace, options: "ExportOptions") -> Target:
    """The target that ``--to`` names; without ``--name``, the model is called like the checkpoint's folder.

    Raises:
        UsageError: When the folder's name is no valid name for a model.
    """
    target, place = find_target(args.to[0]), Path(args.to[1])
    name = args.name
    if name is None:
        name = args.checkpoint.resolve().parent.name
        try:
            target.check_name(name)
        except DeploymentError as error:
            raise UsageError(
                f"without --name, a model is called like its checkpoint's folder: {error} with --name"
            ) from error
    own = {option.name: getattr(args, option.name) for option in target.options}
    return target(place, name, options.target == "gpu", **own)


def _in_words(card: "ModelCard") -> str:
    glimpses = f"{card.num_glimpses} glimpse{'s' * (card.num_glimpses > 1)}"
    error = "" if card.test_error is None else f", test error {card.test_error:.2%}"
    return f"{card.model}, {card.graph} graph in {card.precision}, {glimpses}, {card.data}{error}"
