import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from glimpse.data.datasets import SOURCES, DataError, Split, data_root, embedded_digits, torchvision_source
from tests.support.spellings import rejected

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 28, 28)).astype(np.uint8)
LABELS = (np.arange(60) % 10).astype(np.uint8)


def keys(part: Split) -> list[bytes]:
    return [bytes(image.flatten().tolist()) for image in part.images]


def test_the_embedded_digits_are_1797_real_digits_in_three_parts():
    source = embedded_digits(None, False)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [1097, 200, 500]
    assert source.classes == tuple("0123456789")
    assert source.train.images.shape == (1097, 1, 24, 24)
    assert source.train.images.dtype == torch.uint8
    for part in (source.train, source.validation, source.test):
        assert sorted(part.labels.unique().tolist()) == list(range(10))
        assert part.images.max() > 200


def test_the_embedded_digits_split_is_fixed():
    once, again = embedded_digits(None, False), embedded_digits(None, True)
    for one, other in ((once.train, again.train), (once.validation, again.validation), (once.test, again.test)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    assert hashlib.sha256(once.test.labels.numpy().tobytes()).hexdigest()[:16] == "cdb76474bb4c654b"


def test_no_embedded_digit_is_in_two_parts():
    source = embedded_digits(None, False)
    parts = [keys(part) for part in (source.train, source.validation, source.test)]
    everything = [key for part in parts for key in part]
    assert len(everything) == 1797
    assert len(set(everything)) == 1797


@pytest.mark.slow
def test_no_mnist_digit_is_in_two_parts(mnist_root):
    source = SOURCES["mnist"](str(mnist_root), False)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [57_000, 3_000, 10_000]
    fitting = datasets.MNIST(str(mnist_root), train=True)
    original = {hashlib.sha256(image.numpy().tobytes()).digest() for image in fitting.data}
    told = [
        {hashlib.sha256(image.numpy().tobytes()).digest() for image in part.images}
        for part in (source.train, source.validation, source.test)
    ]
    assert len(original) == 60_000
    assert told[0] | told[1] == original
    assert not told[0] & told[1]
    assert not (told[0] | told[1]) & told[2]


def packed(array: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


class Mirror(ThreadingHTTPServer):
    """Serves a few files from memory, and notes which were asked for."""

    files: dict[str, bytes]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(name)
        body = self.server.files.get(name)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name for it
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A tiny MNIST, served on this machine in place of the real one."""
    files = {
        "train-images-idx3-ubyte.gz": packed(IMAGES[:40]),
        "train-labels-idx1-ubyte.gz": packed(LABELS[:40]),
        "t10k-images-idx3-ubyte.gz": packed(IMAGES[40:]),
        "t10k-labels-idx1-ubyte.gz": packed(LABELS[40:]),
    }
    server = Mirror(("127.0.0.1", 0), Handler)
    server.files, server.asked = files, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    sums = [(name, hashlib.md5(body, usedforsecurity=False).hexdigest()) for name, body in files.items()]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_not_there_is_downloaded_when_asked_and_once(mirror, tmp_path):
    source = SOURCES["mnist"](str(tmp_path), True)
    asked = list(mirror.asked)
    assert set(asked) == set(mirror.files)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [38, 2, 20]
    assert torch.equal(source.test.images[:, 0], torch.from_numpy(IMAGES[40:]))
    assert source.test.labels.tolist() == LABELS[40:].tolist()
    assert source.classes == tuple("0123456789")
    SOURCES["mnist"](str(tmp_path), False)
    assert mirror.asked == asked


def test_nothing_is_downloaded_unasked(mirror, tmp_path):
    sentence = r"expected MNIST under .*, found no complete copy of it; give its folder with --data\.root or "
    sentence += r"GLIMPSE_DATA, or have it downloaded with --data\.download[ =][tT]rue$"
    with rejected(sentence, "data"):
        SOURCES["mnist"](str(tmp_path), False)
    assert mirror.asked == []


def test_a_failed_download_is_told(mirror, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/"])  # where nobody listens
    with pytest.raises(DataError, match=r"expected to download MNIST into .*, got: .*; check the network, or put the"):
        SOURCES["mnist"](str(tmp_path), True)


def test_a_download_that_arrives_damaged_is_told(mirror, tmp_path):
    mirror.files["train-labels-idx1-ubyte.gz"] = packed(LABELS[:39])
    with pytest.raises(DataError, match=r"expected to download MNIST into .*corrupt.*; check the network, or put the"):
        SOURCES["mnist"](str(tmp_path), True)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "svhn"])
def test_every_data_set_that_is_not_there_is_told(name, tmp_path):
    with pytest.raises(DataError, match=r"folder with root or GLIMPSE_DATA, or have it downloaded with download=True$"):
        SOURCES[name](str(tmp_path), False)


class Made:
    """A stand-in for one of torchvision's data sets, with pixels last as CIFAR10 has them, or first as SVHN."""

    def __init__(self, root: str, download: bool, **chosen: object) -> None:
        train = chosen.get("train", chosen.get("split") == "train")
        values = np.arange(40 * 3 * 6 * 5, dtype=np.int64).reshape(40, 3, 6, 5) % 251
        first = (values if train else values[:7]).astype(np.uint8)
        if "split" in chosen:
            self.data, self.labels = first, np.arange(len(first)) % 3
        else:
            self.data, self.targets = first.transpose(0, 2, 3, 1), [place % 3 for place in range(len(first))]
            self.classes = ["0 - zero", "ant", "bee"]


@pytest.mark.parametrize("split_argument", [True, False])
def test_every_layout_becomes_channels_first(monkeypatch, split_argument):
    monkeypatch.setattr(datasets, "Made", Made, raising=False)
    source = torchvision_source("Made", split_argument)(None, False)
    assert source.train.images.shape == (38, 3, 6, 5)
    assert source.test.images.shape == (7, 3, 6, 5)
    assert source.test.images[1, 2, 3].tolist() == [(90 + 60 + 15 + column) % 251 for column in range(5)]
    assert source.test.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert source.classes == (tuple("0123456789") if split_argument else ("0", "ant", "bee"))


def test_the_root_is_the_option_then_the_variable_then_the_folder(monkeypatch):
    monkeypatch.setenv("GLIMPSE_DATA", "/somewhere")
    assert data_root("/given") == Path("/given")
    assert data_root(None) == Path("/somewhere")
    monkeypatch.delenv("GLIMPSE_DATA")
    assert data_root(None) == Path("data")
    assert data_root("~/data") == Path.home() / "data"


def test_boxes_are_taken_with_their_images():
    boxes = torch.rand(3, 2, 4)
    part = Split(torch.zeros(3, 1, 5, 5, dtype=torch.uint8), torch.arange(3), boxes)
    taken = part.take(torch.tensor([2, 0]))
    assert taken.labels.tolist() == [2, 0]
    assert taken.boxes is not None
    assert torch.equal(taken.boxes, boxes[[2, 0]])
    assert Split(part.images, part.labels).take(torch.tensor([1])).boxes is None
