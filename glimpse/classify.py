"""``glimpse classify``: what an exported model makes of image files, where it looked and how sure it was. No torch."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from glimpse import crop, map_pictures, pixels, visualise
from glimpse.album import Album

if TYPE_CHECKING:
    from glimpse.runtime import GlimpseSession, Prediction


class Sight(NamedTuple):
    """One image that a model has looked at."""

    image: UInt8[np.ndarray, "height width channels"]
    """As it was decoded."""
    canvas: UInt8[np.ndarray, "height width channels"]
    """As the model saw it."""
    on_canvas: "Prediction"
    """The answer in the canvas's frame, a batch of one."""
    on_image: "Prediction"
    """The answer in the image's own frame, a batch of one."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to a parser's subcommands.

    Args:
        subparsers: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = subparsers.add_parser(
        "classify",
        help="say what images show, and where the model looked",
        description="Classify images with an exported model: the class, how sure, and where it looked after each "
        "glimpse. Locations are (x, y) in [-1, 1] of the image, the middle (0, 0); windows are in its pixels. "
        "An attention map covers the image as the model saw it: scaled and centred on black.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file written by 'glimpse export'")
    parser.add_argument("images", type=Path, metavar="IMAGE", nargs="+", help="PNG, JPEG, BMP, GIF, TIFF, WebP or PPM")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="DIR",
        help="write a picture of each answer and how it came about into this directory",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Classify images and print what was found; an image that fails is named on stderr and the others go on.

    Args:
        args: What :func:`add_parser` 's parser made of the command line.

    Returns:
        0 when every image was classified, 1 otherwise.

    Raises:
        ContractError: When the model can't be used.
    """
    try:
        from glimpse.runtime import GlimpseSession
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return _complain("running a model needs onnxruntime; install it with pip install 'glimpse-attention[serve]'")
    session = GlimpseSession(args.model)
    album = None
    if args.draw is not None:
        try:
            album = Album(args.draw, args.images)
        except OSError as error:
            return _complain(
                f"--draw: can't make the directory {str(args.draw)!r} ({error.strerror}); name another one"
            )
    answers: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    for path in args.images:
        try:
            sight = look(session, path)
            picture = album.add(draw(session, sight), path.stem) if album else None
        except (pixels.ImageError, OSError) as error:
            errors.append({"image": str(path), "error": str(error)})
            _complain(str(error))
            continue
        answers.append(_describe(session, path, sight, picture))
        if not args.json:
            print(_as_text(answers[-1]), flush=True)
    if args.json:
        card = session.card
        model = {"path": str(args.model), "classes": card.classes, "data": card.data, "test_error": card.test_error}
        print(json.dumps({"model": model, "images": answers, "errors": errors}, indent=2))
    return 1 if errors else 0


def look(session: "GlimpseSession", path: Path) -> Sight:
    """Have a model look at an image file.

    Args:
        session: The model.
        path: The image.

    Raises:
        ImageError: When the file is no image that can be read.
    """
    image = pixels.decode(path)
    canvas = session.fit(image)
    on_canvas = session.run(canvas[None])
    return Sight(image, canvas, on_canvas, session.onto_images(on_canvas, [(image.shape[0], image.shape[1])]))


def draw(session: "GlimpseSession", sight: Sight, truth: str | None = None) -> Image.Image:
    """Draw what a model made of an image, by its kind.

    With a retina: the scanpath, and what the retina saw. With attention maps: each glimpse's map over the canvas. With
    neither: the image and the strongest beliefs.

    Args:
        session: The model.
        sight: What it made of the image.
        truth: The right class's name, where it is known.
    """
    card, (probabilities, locations, boxes, maps) = session.card, sight.on_image
    if maps is not None:
        return map_pictures.draw_attention(sight.canvas, maps[0], probabilities[0], card.classes, truth)
    if boxes is None or card.glimpse_size is None or card.num_scales is None or card.zoom is None:
        return map_pictures.draw_answer(sight.image, probabilities[0, -1], card.classes, truth)
    on_canvas = sight.on_canvas.locations[0]
    canvas = sight.canvas.transpose(2, 0, 1)
    canvases = np.broadcast_to(canvas, (len(on_canvas), *canvas.shape))
    glimpses = crop.extract_glimpse(canvases, on_canvas, card.glimpse_size, card.num_scales, card.zoom)
    return visualise.draw_classification(
        sight.image, boxes[0], locations[0], glimpses, probabilities[0], card.classes, truth
    )


def _describe(session: "GlimpseSession", path: Path, sight: Sight, picture: Path | None) -> dict[str, Any]:
    """Say in JSON's values what a model made of an image."""
    found, classes = sight.on_image, session.card.classes
    probabilities = _values(found.probabilities)
    glimpses: list[dict[str, Any]] = []
    for time, belief in enumerate(probabilities):
        label = int(np.argmax(belief))
        glimpses.append({"class": classes[label], "confidence": belief[label]})
        if found.boxes is not None or found.maps is not None:
            glimpses[-1]["location"] = _values(found.locations)[time]
        if found.boxes is not None:
            glimpses[-1]["boxes"] = _values(found.boxes)[time]
        if found.maps is not None:
            glimpses[-1]["map"] = _values(found.maps, digits=4)[time]
    return {
        "image": str(path),
        "height": sight.image.shape[0],
        "width": sight.image.shape[1],
        "class": glimpses[-1]["class"],
        "confidence": glimpses[-1]["confidence"],
        "probabilities": probabilities[-1],
        "glimpses": glimpses,
        "picture": None if picture is None else str(picture),
    }


def _values(field: Float[np.ndarray, "1 *axes"], digits: int = 6) -> list[Any]:
    """The one image's part of a prediction as JSON's values."""
    values: list[Any] = field[0].astype(float).round(digits).tolist()
    return values


def _as_text(answer: dict[str, Any]) -> str:
    """Lay an answer out as a heading and one aligned line for each glimpse, with what this kind of model says of it."""
    columns: dict[str, list[str]] = {"glimpse": [], "location": [], "finest window (px)": [], "belief": [], "": []}
    for number, glimpse in enumerate(answer["glimpses"], start=1):
        columns["glimpse"].append(str(number))
        if "location" in glimpse:
            x, y = glimpse["location"]
            columns["location"].append(f"({x:+.2f}, {y:+.2f})")
        if "boxes" in glimpse:
            left, top, right, bottom = (round(side) for side in glimpse["boxes"][0])
            columns["finest window (px)"].append(f"{left}..{right}, {top}..{bottom}")
        columns["belief"].append(glimpse["class"])
        columns[""].append(f"{glimpse['confidence']:.1%}")
    lines = [f"{_printable(answer['image'])}: {answer['class']} ({answer['confidence']:.1%})"]
    aligned = []
    for title, entries in columns.items():
        if entries:
            width = max(map(len, (title, *entries)))
            to_the_right = title in ("glimpse", "")
            aligned.append([text.rjust(width) if to_the_right else text.ljust(width) for text in (title, *entries)])
    lines += [f"  {'  '.join(row)}".rstrip() for row in zip(*aligned, strict=True)]
    if answer["picture"]:
        lines.append(f"  drawn in {_printable(answer['picture'])}")
    return "\n".join(lines) + "\n"


def _printable(text: str) -> str:
    """Quote a file's name that would upset a terminal."""
    return text if text.isprintable() else repr(text)


def _complain(message: str) -> int:
    print(f"glimpse: {message}", file=sys.stderr)
    return 1
