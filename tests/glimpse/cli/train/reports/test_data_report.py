import numpy as np
import torch
from PIL import Image

from glimpse.cli.train.reports.data_report import EXAMPLES_FILE, PAGE_FILE, write_data_report
from glimpse.data.datasets import Source, Split


def source(page: str) -> Source:
    images = torch.arange(12, dtype=torch.uint8).mul(20).reshape(12, 1, 1, 1).expand(12, 1, 9, 9).contiguous()
    part = Split(images, torch.arange(12) % 3)
    return Source(part, part, part, ("a", "b", "c"), page=page)


def test_a_data_set_with_a_page_gets_it_and_a_picture(tmp_path):
    write_data_report(source("# Data\n"), tmp_path)
    assert (tmp_path / PAGE_FILE).read_text(encoding="utf-8") == "# Data\n"
    with Image.open(tmp_path / EXAMPLES_FILE) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        shown = set(pixels[(pixels == pixels[:, :1]).all(axis=1), 0].tolist())
    assert {20 * number for number in range(1, 12)} <= shown


def test_a_data_set_without_a_page_gets_nothing(tmp_path):
    write_data_report(source(""), tmp_path)
    assert list(tmp_path.iterdir()) == []
