"""``glimpse explain``: what a trained model attended to in images, and what its answer depends on.

torch is imported when it runs.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.parser import add_checkpoint, add_output_folder, parse_location
from glimpse.cli.usage import UsageError
from glimpse.contract.card import FIT, SQUASH
from glimpse.contract.texts import visible, visible_lines
from glimpse.errors import suggestion

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from glimpse.training.classifier import ClassifierTraining

TITLES = {"jacobian": "Jacobian", "smoothed": "smoothed gradients", "integrated": "integrated gradients"}
"""What the implicit maps are called in pictures, by the names of the methods."""
LONGEST_SIDE = 960
"""Longest side at which an image is drawn beside its maps, pixels; a larger one is reduced."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    add_checkpoint(parser)
    parser.add_argument("images", type=Path, metavar="IMAGE", nargs="+", help="PNG, JPEG, BMP, GIF, TIFF, WebP or PPM")
    add_output_folder(parser, "explained")
    parser.add_argument(
        "--method",
        dest="methods",
        action="append",
        choices=("jacobian", "smoothed", "integrated"),
        help="method of the map; may be given several times; jacobian if left out, integrated needs captum",
    )
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="the class whose logit is explained; the answer if left out"
    )
    parser.add_argument(
        "--first-location",
        type=parse_location,
        metavar="X,Y",
        help="where the first glimpse is taken, both in [-1, 1] of the image; its centre, 0,0, if left out",
    )


def run(args: argparse.Namespace) -> int:
    """Draw the maps of every image; one that fails is named on stderr and the others go on.

    Args:
        args: The arguments of :func:`add_arguments`.

    Returns:
        0 when every image was explained, 1 otherwise.

    Raises:
        CheckpointError: When the checkpoint is none of ours.
        UsageError: When the model has no such class, or no first glimpse whose location could be chosen.
    """
    from glimpse.drawing.album import PictureFolder
    from glimpse.images import pixels
    from glimpse.training.checkpoint import load_training

    training, data = load_training(args.checkpoint)
    if args.first_location is not None and training.observer.retina is None:
        raise UsageError("--first-location: the model has no retina, so it has no first glimpse; leave it out")
    output = None if args.label is None else class_number(training, args.label)
    album = PictureFolder(args.output, args.images)
    failed = False
    for path in args.images:
        try:
            picture, answer = explain(
                training,
                pixels.decode(path),
                args.methods or ["jacobian"],
                output,
                args.first_location,
                data.size_policy,
            )
            place = shlex.quote(str(album.add(picture, path.stem)))
            print(visible(f"{path}: {answer}; drawn in {place}"), flush=True)
        except (pixels.ImageError, OSError) as error:
            print(f"glimpse: {visible_lines(str(error))}", file=sys.stderr)
            failed = True
    return int(failed)


def class_number(training: "ClassifierTraining", name: str) -> int:
    """The output that stands for a class.

    Raises:
        UsageError: When the model has no class of that name.
    """
    if name not in training.classes:
        hint = suggestion(name, training.classes)
        raise UsageError(f"--class: expected a class out of {', '.join(training.classes)}; got {name!r}{hint}")
    return training.classes.index(name)


def explain(
    training: "ClassifierTraining",
    image: "np.ndarray",
    methods: list[str],
    output: int | None = None,
    first_location: tuple[float, float] | None = None,
    size_policy: str = FIT,
) -> "tuple[Image, str]":
    """Draw where a model attended and where it looked, as far as it did, and its implicit maps, on one image.

    The maps are those of the model's canvas. An image that is larger than the canvas, or has other proportions there,
    is drawn in its own size, up to :data:`LONGEST_SIDE`, and the maps are laid over it.

    Args:
        training: The model.
        image: uint8 (height, width, channels), grey or RGB, of any size.
        methods: Names out of :data:`glimpse.evaluation.maps.MAP_METHODS`.
        output: The class whose logit is explained; the model's answer when left out.
        first_location: Where a model with a retina begins, (x, y) in [-1, 1] of the image; the centre when left out.
        size_policy: How an image of another size comes onto the canvas, one of
            :data:`glimpse.contract.card.SIZE_POLICIES`.

    Returns:
        The picture, and the answer in words.
    """
    import numpy as np
    import torch

    from glimpse.drawing.heatmap import draw_maps, over_image
    from glimpse.drawing.layout import display_size, resize
    from glimpse.drawing.text import to_picture
    from glimpse.evaluation.maps import explicit_maps, fixation_maps, implicit_maps
    from glimpse.images import pixels
    from glimpse.images.frames import Frames

    observer = training.observer
    channels, height, width = training.image_shape
    canvas = pixels.fit(image, height, width, channels, size_policy)
    images = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))[None].to(observer.device)
    first: tuple[torch.Tensor, ...] = ()
    if first_location is not None:
        frames = Frames([(image.shape[0], image.shape[1])], height, width, size_policy)
        first = (torch.from_numpy(frames.locations_on_canvas(np.array(first_location))).to(observer.device),)
    with torch.no_grad():
        trace = observer(images, *first)
    belief = trace.logits[0, -1].float().softmax(0)
    best = int(belief.argmax())
    answer = f"{training.classes[best]} ({belief[best]:.1%})"
    explained = torch.tensor([best if output is None else output], device=observer.device)
    maps = []
    attended = None if trace.maps is None else explicit_maps(observer, trace, *canvas.shape[:2])
    looked = fixation_maps(observer, trace, *canvas.shape[:2])
    for title, explicit in (("where it attended", attended), ("where it looked", looked)):
        if explicit is not None:
            maps.append((title, explicit[0].cpu().numpy()))
    for method in methods:
        implicit = implicit_maps(observer, images, explained, method, *first)
        maps.append((TITLES[method], implicit[0].float().cpu().numpy()))
    held = ", its fixations held where they were" if observer.chooses else ""
    note = (
        f"The model's answer is {answer}. The other maps show how much each pixel changes the logit of "
        f"{training.classes[int(explained)]}{held}."
    )
    drawn = canvas
    if image.shape[0] > height or image.shape[1] > width or size_policy == SQUASH:
        photograph = to_picture(image)
        drawn = np.asarray(resize(photograph, display_size(photograph.size, 1, LONGEST_SIDE)))
        place = pixels.placement(image.shape[0], image.shape[1], height, width, size_policy)
        maps = [(title, over_image(map_, place, drawn.shape[0], drawn.shape[1])) for title, map_ in maps]
    return draw_maps(drawn, maps, columns=len(maps) + 1, note=note, longest=LONGEST_SIDE), answer
