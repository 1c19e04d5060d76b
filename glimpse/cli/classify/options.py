"""The options of ``glimpse classify``. Nothing heavy is imported to read them."""

import argparse
import math
from pathlib import Path
from typing import Any

from glimpse.cli.parser import parse_location
from glimpse.cli.usage import UsageError
from glimpse.contract.card import ModelCard
from glimpse.drawing.album import FILM_FORMATS

BATCH_SIZE = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.description = (
        "Classify images with an exported model: the class, its probability, and the location of each glimpse. "
        "Locations are (x, y) in [-1, 1] of the image, the centre (0, 0); windows are in its pixels. "
        "An attention map covers the model's input: the image scaled, and centred on black."
    )
    parser.epilog = "An image that fails is named on standard error, the others go on, and the exit status is 1."
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file written by 'glimpse export'")
    images = parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        default=[],
        help="PNG, JPEG, BMP, GIF, TIFF, WebP or PPM; a folder of them; a quoted pattern such as 'photos/**/*.jpg'; "
        "or - for an image on standard input; may be left out where --from is given",
    )
    parser.add_argument(
        "--from",
        dest="lists",
        metavar="FILE",
        action=_List,
        images=images,
        default=[],
        help="a list of paths, one a line or ended by NULs (find -print0); - for standard input; may be given "
        "several times",
    )
    parser.add_argument("--recursive", action="store_true", help="look for images in folders within folders, too")

    prediction = parser.add_argument_group("prediction")
    prediction.add_argument(
        "--max-glimpses", type=_count, metavar="N", help="glimpses an image; the model's if left out"
    )
    prediction.add_argument(
        "--confidence", type=_share, metavar="P", help="stop when a class has this probability, such as 0.95"
    )
    prediction.add_argument(
        "--time", type=_positive, metavar="MS", help="begin no glimpse when an image has taken so many milliseconds"
    )
    prediction.add_argument(
        "--first-location",
        type=parse_location,
        metavar="X,Y",
        help="where the first glimpse is taken, both in [-1, 1] of the image; its centre, 0,0, if left out, also for a "
        "model that was trained with random ones",
    )
    prediction.add_argument(
        "--size",
        choices=("fit", "native"),
        help="fit scales images to those that the model learned from; native takes them as they are, and reads of "
        ".npy, .zarr and tiled .tif files only the parts that it needs; fit if left out",
    )
    prediction.add_argument(
        "--batch-size",
        type=_count,
        metavar="N",
        help=f"images of a batch; {BATCH_SIZE} if left out, 1 with --time",
    )
    prediction.add_argument("--provider", metavar="NAME", help="what it runs on, such as cuda; cpu if left out")
    prediction.add_argument("--threads", type=_count, metavar="N", help="threads of the processor; 1 if left out")

    output = parser.add_argument_group("output")
    forms = output.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    forms.add_argument("--json-lines", action="store_true", help="print one JSON object on a line for each image")
    forms.add_argument("--csv", action="store_true", help="print a table, with a column for each class's probability")
    output.add_argument(
        "--output", type=Path, metavar="FILE", help="write into this file what would be printed, when it is complete"
    )
    output.add_argument(
        "--draw",
        type=Path,
        metavar="DIR",
        help="write a picture of each prediction and its glimpses into this directory",
    )
    output.add_argument(
        "--animate", type=Path, metavar="DIR", help="write a film of each image's glimpses into this directory"
    )
    output.add_argument(
        "--format", choices=FILM_FORMATS, help="of the films: gif, or webp with every colour; gif if left out"
    )
    output.add_argument("--quiet", action="store_true", help="draw no progress line")


def check_classify_options(args: argparse.Namespace, card: ModelCard) -> None:
    """Reject options that don't fit each other, or that the model does not support.

    Args:
        args: The arguments of :func:`add_arguments`.
        card: The model's card.

    Raises:
        UsageError: When an option does not apply; it names the option, and what to do.
    """
    if args.format and not args.animate:
        raise UsageError("--format is that of the films; expected --animate DIR with it")
    if args.animate and not (card.has_boxes or card.has_maps):
        raise UsageError(
            f"--animate: the model takes an image in at once ({card.model}), so there is no gaze to animate; "
            "--draw shows what it believes"
        )
    if args.max_glimpses is not None and args.max_glimpses > card.num_glimpses:
        raise UsageError(
            f"--max-glimpses: expected at most {card.num_glimpses}, those that the model was trained to take, got "
            f"{args.max_glimpses}; lower it"
        )
    if args.first_location is not None and not card.has_retina:
        raise UsageError(
            f"--first-location: the model takes an image in at once ({card.model}), so it has no first glimpse; leave "
            "it out"
        )
    if args.size == "native" and not card.any_size:
        raise UsageError(
            f"--size: the graph of the model takes images of {card.width} x {card.height} pixels only; expected fit, "
            "got native, or export the model for any size"
        )
    if args.time is not None and card.graph == "episode":
        raise UsageError(
            "--time: the graph of the model takes all glimpses at once, which saves no time; export it with "
            "--graph adaptive"
        )


class _List(argparse.Action):
    """Adds a list of images; the positional images are then optional."""

    def __init__(self, *args: Any, images: argparse.Action, **options: Any) -> None:
        super().__init__(*args, **options)
        self._images = images

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])
        self._images.required = False


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a probability above 0 and up to 1, such as 0.95, got {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
