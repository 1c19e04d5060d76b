"""``glimpse classify``: what an exported model makes of image files, where it looked and how sure it was. No torch."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage
    from glimpse.runtime.session import GlimpseSession

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glimpse.cli.classify.formats import (
    CsvFormat,
    JsonDocumentFormat,
    JsonLinesFormat,
    OutputFormat,
    TextFormat,
    describe,
)
from glimpse.cli.classify.images import LAZY_SUFFIXES, SUFFIXES, ImageSource, find_images, read
from glimpse.cli.classify.options import BATCH_SIZE, check
from glimpse.cli.classify.progress import ProgressLine
from glimpse.cli.usage import UsageError
from glimpse.drawing import animation
from glimpse.drawing.album import FILM_FORMATS, PictureFolder
from glimpse.drawing.view import FramedPrediction, animate, draw, extent, view_of
from glimpse.files import whole_text, write_problem
from glimpse.images import pixels

if TYPE_CHECKING:
    from glimpse.runtime.session import GlimpseSession


class _Shot(NamedTuple):
    """An image of a batch, or why it could not be read."""

    source: ImageSource
    image: Any
    failure: str | None = None


def run(args: argparse.Namespace) -> int:
    """Classify images and tell what was found; an image that fails is named on stderr and the others go on.

    Args:
        args: What :mod:`glimpse.cli.classify.options` 's parser made of the command line.

    Returns:
        0 when every image was classified, 1 otherwise.

    Raises:
        ContractError: When the model can't be used.
        ImagePathError: When a folder or a pattern holds no image, or a list of images can't be read.
        UsageError: When the options don't fit each other, or the model.
    """
    native = args.size == "native"
    sources = find_images(args.images, args.lists, args.recursive, SUFFIXES | LAZY_SUFFIXES if native else SUFFIXES)
    if args.output is not None:
        read_too = [args.model, *map(Path, args.lists)]
        _check_output(args.output, [*read_too, *(source.path for source in sources if source.path)])
    try:
        from glimpse.runtime.session import GlimpseSession
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return _complain("running a model needs onnxruntime; install it with pip install 'glimpse-attention[serve]'")
    session = GlimpseSession(args.model, **_given(threads=args.threads, provider=args.provider))
    check(args, session.card)
    albums: list[PictureFolder | None] = []
    for option, folder in (("--draw", args.draw), ("--animate", args.animate)):
        try:
            albums.append(folder and PictureFolder(folder, [source.path for source in sources if source.path]))
        except OSError as error:
            return _complain(f"{option}: can't make the directory {str(folder)!r} ({error.strerror}); name another one")
    with _destination(args.output) as write:
        return _tell(args, session, sources, albums, write)


def _tell(
    args: argparse.Namespace,
    session: "GlimpseSession",
    sources: Sequence[ImageSource],
    albums: Sequence[PictureFolder | None],
    write: Callable[[str], object],
) -> int:
    """Look at the images and tell the answers, batch by batch."""
    native, form, card = args.size == "native", _form(args, session), session.card
    # A line on the terminal to which the answers go as well would only be in their way.
    drawn = sys.stderr.isatty() and (args.output is not None or not sys.stdout.isatty())
    line = ProgressLine(len(sources), sys.stderr) if drawn and len(sources) > 1 and not args.quiet else None
    failed = False
    write(form.begin())
    for batch in _batches(sources, args.batch_size or (1 if args.time else BATCH_SIZE), native):
        for shot, found in _looks(session, batch, native, args):
            try:
                if isinstance(found, str):
                    raise pixels.ImageError(found)
                picture, film = _drawn(session, shot, found, native, albums, args.format or FILM_FORMATS[0])
            except (pixels.ImageError, OSError) as error:
                failed = True
                if line:
                    line.clear()
                _complain(str(error))
                write(form.failure(shot.source.name, str(error)))
            else:
                size = extent(shot.image)
                write(form.answer(describe(shot.source.name, size, found.on_image, card.classes, picture, film)))
            if line:
                line.advance()
    write(form.end())
    if line:
        line.clear()
    return 1 if failed else 0


def _batches(sources: Iterable[ImageSource], size: int, native: bool) -> Iterator[list[_Shot]]:
    """Read images, so many at a time, or fewer when they are large."""
    batch: list[_Shot] = []
    held = 0
    for source in sources:
        try:
            image = read(source, native)
        except (pixels.ImageError, OSError) as error:
            batch.append(_Shot(source, None, str(error)))
        else:
            batch.append(_Shot(source, image))
            held += math.prod(extent(image))
        if len(batch) == size or held >= pixels.MAX_PIXELS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _looks(
    session: "GlimpseSession", batch: Sequence[_Shot], native: bool, args: argparse.Namespace
) -> Iterator[tuple[_Shot, FramedPrediction | str]]:
    """Look at the images of a batch; for one that fails there is a sentence instead."""
    whole = [shot for shot in batch if shot.failure is None]
    limits = _given(max_glimpses=args.max_glimpses, confidence=args.confidence)
    if native:
        for shot in batch:
            try:
                limits |= {"seconds": args.time / 1000} if args.time else {}
                yield shot, shot.failure or look_natively(session, shot.image, **limits)
            except pixels.ImageError as error:
                yield shot, f"{shot.source.name!r}: {error}"
        return
    limits |= {"seconds": args.time / 1000 * len(whole)} if args.time else {}
    found = iter(look(session, [shot.image for shot in whole], **limits) if whole else ())
    for shot in batch:
        yield shot, shot.failure or next(found)


def _drawn(
    session: "GlimpseSession",
    shot: _Shot,
    found: FramedPrediction,
    native: bool,
    albums: Sequence[PictureFolder | None],
    film_format: str,
) -> tuple[Path | None, Path | None]:
    """Draw and animate an answer, where it is asked for."""
    pictures, films = albums
    if not pictures and not films:
        return None, None
    seen, stem = view_of(session, shot.image, found, native), shot.source.stem
    picture = pictures.add(draw(session, seen), stem) if pictures else None
    if not films:
        return picture, None
    frames = animate(session, seen)
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
    """Where answers are written: standard output, or a file that replaces what was there when it is complete."""
    if path is None:
        yield lambda text: print(text, end="", flush=True)
        return
    with whole_text(path, errors="surrogateescape") as stream:
        yield stream.write


def _check_output(path: Path, sources: Iterable[Path]) -> None:
    """Refuse a place that can't be written, or where something lies that is read, before any work is done."""
    if problem := write_problem(path):
        raise UsageError(f"--output: {problem}")
    if path.resolve() in {source.resolve() for source in sources}:
        raise UsageError(f"--output: {str(path)!r} is read by this command, so it can't be replaced; name another one")


def _given(**options: Any) -> dict[str, Any]:
    """Those of some options that the user has set."""
    return {name: value for name, value in options.items() if value is not None}


def _complain(message: str) -> int:
    print(f"glimpse: {message}", file=sys.stderr)
    return 1


def look(session: "GlimpseSession", images: Sequence[npt.NDArray[Any]], **limits: Any) -> list[FramedPrediction]:
    """Have a model look at images on its canvas, all of them in one batch.

    Args:
        session: The model.
        images: uint8 (height, width, channels), grey or RGB, each of any size; at least one.
        limits: When it stops: what of ``max_glimpses``, ``confidence`` and ``seconds`` is limited.
    """
    on_canvas = session.run(np.stack([session.fit(image) for image in images]), **limits)
    on_image = session.onto_images(on_canvas, [extent(image) for image in images])
    return [FramedPrediction(on_canvas.select(index), on_image.select(index)) for index in range(len(images))]


def look_natively(
    session: "GlimpseSession", image: "UInt8[np.ndarray, 'height width channels'] | LazyImage", **limits: Any
) -> FramedPrediction:
    """Have a model look at an image in its own size.

    Args:
        session: The model.
        image: Grey or RGB, 0 to 255.
        limits: See :func:`look`.

    Raises:
        ImageError: When the model can't take the image in its size.
    """
    found = session.predict([image], size="native", **limits).select(0)
    return FramedPrediction(found, found)
