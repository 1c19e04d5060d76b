"""What a folder of images holds, beside its run before training: a page of counts, and examples as a picture."""

import io
from pathlib import Path

import torch

from glimpse.data.datasets import Source
from glimpse.drawing.examples import IMAGES_SHOWN, ClassExamples, draw_examples
from glimpse.files import write_whole

PAGE_FILE = "data.md"
EXAMPLES_FILE = "examples.png"


def write_data_report(source: Source, folder: Path) -> None:
    """Write the page and the picture of a data set that has a page.

    Args:
        source: The data set.
        folder: The run's folder, which is there.

    Raises:
        OSError: When they can't be written.
    """
    if not source.page:
        return
    write_whole(folder / PAGE_FILE, source.page)
    examples = []
    for label, name in enumerate(source.classes):
        places = torch.nonzero(source.train.labels == label).flatten()
        images = source.train.images[places[:IMAGES_SHOWN]].permute(0, 2, 3, 1).numpy()
        examples.append(ClassExamples(name, len(places), list(images)))
    content = io.BytesIO()
    draw_examples(examples).save(content, "PNG")
    write_whole(folder / EXAMPLES_FILE, content.getvalue())
