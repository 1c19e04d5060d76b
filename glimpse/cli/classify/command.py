"""``glimpse classify``: the classes that an exported model predicts for image files, and its glimpses. No torch."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from glimpse.cli.classify.formats import (
    CsvFormat,
    JsonDocumentFormat,
    JsonLinesFormat,
    OutputFormat,
    TextFormat,
    describe,
)
from glimpse.cli.classify.images import LAZY_SUFFIXES, ImageSource, find_images, read_image
from glimpse.cli.classify.options import BATCH_SIZE, add_arguments, check_classify_options
from glimpse.cli.classify.progress import ProgressLine
from glimpse.cli.usage import UsageError
from glimpse.contract.texts import visible_lines
from glimpse.drawing import animation
from glimpse.drawing.album import FILM_FORMATS, PictureFolder
from glimpse.drawing.view import FramedPrediction, animate, draw, extent, view_of
from glimpse.files import whole_text, write_problem
from glimpse.images import pixels
from glimpse.images.formats import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage
    from glimpse.runtime.session import GlimpseSession

__all__ = ["add_arguments", "predict_fitted", "predict_native", "run"]


class _Input(NamedTuple):
    """An image of a batch, or why it could not be read."""

    source: ImageSource
    image: Any
    failure: str | None = None


def run(args: argparse.Namespace) -> int:
    """Classify images and print the predictions; an image that fails is named on stderr and the others go on.

    Args:
        args: The arguments of :func:`glimpse.cli.classify.options.add_arguments`.

    Returns:
        0 when every image was classified, 1 otherwise.

    Raises:
        ContractError: When the model can't be used.
        ImagePathError: When a folder or a pattern holds no image, or a list of images can't be read.
        UsageError: When the options don't fit each other, or the model.
    """
    native = args.size == "native"
    sources = find_images(
        args.images, args.lists, args.recursive, IMAGE_SUFFIXES | LAZY_SUFFIXES if native else IMAGE_SUFFIXES
    )
    if args.output is not None:
        read_too = [args.model, *map(Path, args.lists)]
        _check_output(args.output, [*read_too, *(source.path for source in sources if source.path)])
    try:
        from glimpse.runtime.session import GlimpseSession
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return _report("running a model needs onnxruntime; install it with pip install 'glimpse-attention[serve]'")
    session = GlimpseSession(args.model, **_given(threads=args.threads, provider=args.provider))
    check_classify_options(args, session.card)
    albums: list[PictureFolder | None] = []
    for option, folder in (("--draw", args.draw), ("--animate", args.animate)):
        try:
            albums.append(folder and PictureFolder(folder, [source.path for source in sources if source.path]))
        except OSError as error:
            return _report(f"{option}: can't make the directory {str(folder)!r} ({error.strerror}); name another one")
    with _destination(args.output) as write:
        return _classify(args, session, sources, albums, write)


def _classify(
    args: argparse.Namespace,
    session: "GlimpseSession",
    sources: Sequence[ImageSource],
    albums: Sequence[PictureFolder | None],
    write: Callable[[str], object],
) -> int:
    """Classify the images and write the predictions, batch by batch."""
    native, form, card = args.size == "native", _form(args, session), session.card
    # No progress line on a terminal that shows the predictions as well.
    drawn = sys.stderr.isatty() and (args.output is not None or not sys.stdout.isatty())
    line = ProgressLine(len(sources), sys.stderr) if drawn and len(sources) > 1 and not args.quiet else None
    failed = False
    write(form.begin())
    for batch in _batches(sources, args.batch_size or (1 if args.time else BATCH_SIZE), native):
        for entry, found in _predictions(session, batch, native, args):
            try:
                if isinstance(found, str):
                    raise pixels.ImageError(found)
                picture, film = _drawn(session, entry, found, native, albums, args.format or FILM_FORMATS[0])
            except (pixels.ImageError, OSError) as error:
                failed = True
                if line:
                    line.clear()
                _report(str(error))
                write(form.failure(entry.source.name, str(error)))
            else:
                size = extent(entry.image)
                write(form.answer(describe(entry.source.name, size, found.on_image, card.classes, picture, film)))
            if line:
                line.advance()
    write(form.end())
    if line:
        line.clear()
    return 1 if failed else 0


def _batches(sources: Iterable[ImageSource], size: int, native: bool) -> Iterator[list[_Input]]:
    """Read images in batches of a number of images, or of fewer when they are large."""
    batch: list[_Input] = []
    held = 0
    for source in sources:
        try:
            image = read_image(source, native)
        except (pixels.ImageError, OSError) as error:
            batch.append(_Input(source, None, str(error)))
        else:
            batch.append(_Input(source, image))
            held += math.prod(extent(image))
        if len(batch) == size or held >= pixels.MAX_PIXELS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _predictions(
    session: "GlimpseSession", batch: Sequence[_Input], native: bool, args: argparse.Namespace
) -> Iterator[tuple[_Input, FramedPrediction | str]]:
    """Predict the images of a batch; for one that fails the error message comes instead."""
    whole = [entry for entry in batch if entry.failure is None]
    limits = _given(max_glimpses=args.max_glimpses, confidence=args.confidence, first_location=args.first_location)
    if native:
        for entry in batch:
            try:
                limits |= {"seconds": args.time / 1000} if args.time else {}
                yield entry, entry.failure or predict_native(session, entry.image, **limits)
            except pixels.ImageError as error:
                yield entry, f"{entry.source.name!r}: {error}"
        return
    limits |= {"seconds": args.time / 1000 * len(whole)} if args.time else {}
    found = iter(predict_fitted(session, [entry.image for entry in whole], **limits) if whole else ())
    for entry in batch:
        yield entry, entry.failure or next(found)


def _drawn(
    session: "GlimpseSession",
    entry: _Input,
    found: FramedPrediction,
    native: bool,
    albums: Sequence[PictureFolder | None],
    film_format: str,
) -> tuple[Path | None, Path | None]:
    """Draw and animate a prediction, as the options state."""
    pictures, films = albums
    if not pictures and not films:
        return None, None
    view, stem = view_of(session, entry.image, found, native), entry.source.stem
    picture = pictures.add(draw(session, view), stem) if pictures else None
    if not films:
        return picture, None
    frames = animate(session, view)
    colours = animation.exact_colours(len(frames), session.card.has_maps)
    return picture, films.add_film(frames, stem, animation.milliseconds(len(frames)), film_format, colours)


def _form(args: argparse.Namespace, session: "GlimpseSession") -> OutputFormat:
    if args.json:
        return JsonDocumentFormat(args.model, session.card, session.sha256)
    if args.json_lines:
        return JsonLinesFormat()
    if args.csv:
        return CsvFormat(session.card.classes)
    limited = (args.max_glimpses, args.confidence, args.time) != (None, None, None)
    return TextFormat(session.card.num_glimpses, limited)


@contextmanager
def _destination(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Where the output is written: standard output, or a file that replaces an older one when it is complete."""
    if path is None:
        yield lambda text: print(text, end="", flush=True)
        return
    with whole_text(path, errors="surrogateescape") as stream:
        yield stream.write


def _check_output(path: Path, sources: Iterable[Path]) -> None:
    """Reject an output that can't be written, or that is an input as well, before any work is done."""
    if problem := write_problem(path):
        raise UsageError(f"--output: {problem}")
    if path.resolve() in {source.resolve() for source in sources}:
        raise UsageError(f"--output: {str(path)!r} is read by this command, so it can't be replaced; name another one")


def _given(**options: Any) -> dict[str, Any]:
    """Those of some options that the user has set."""
    return {name: value for name, value in options.items() if value is not None}


def _report(message: str) -> int:
    print(f"glimpse: {visible_lines(message)}", file=sys.stderr)
    return 1


def predict_fitted(
    session: "GlimpseSession",
    images: Sequence[npt.NDArray[Any]],
    first_location: tuple[float, float] | None = None,
    **limits: Any,
) -> list[FramedPrediction]:
    """Predict images that are fitted to the model's size, all of them in one batch.

    Args:
        session: The model.
        images: uint8 (height, width, channels), grey or RGB, each of any size; at least one.
        first_location: Where to begin, (x, y) in [-1, 1] of each image; the centre when left out.
        limits: When it stops: any of ``max_glimpses``, ``confidence`` and ``seconds``.
    """
    sizes = [extent(image) for image in images]
    if first_location is not None:
        limits["first_location"] = session.onto_canvas(first_location, sizes)
    on_canvas = session.run(np.stack([session.fit(image) for image in images]), **limits)
    on_image = session.onto_images(on_canvas, sizes)
    return [FramedPrediction(on_canvas.select(index), on_image.select(index)) for index in range(len(images))]


def predict_native(
    session: "GlimpseSession", image: "UInt8[np.ndarray, 'height width channels'] | LazyImage", **limits: Any
) -> FramedPrediction:
    """Predict an image in its own size.

    Args:
        session: The model.
        image: Grey or RGB, 0 to 255.
        limits: See :func:`predict_fitted`; and ``first_location``.

    Raises:
        ImageError: When the model can't take the image in its size.
    """
    found = session.predict([image], size="native", **limits).select(0)
    return FramedPrediction(found, found)
