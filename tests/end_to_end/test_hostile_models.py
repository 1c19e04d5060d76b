"""Model files that cost too much, or whose texts are none, beside one in order: the service serves that one."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glimpse_serve.settings import Settings
from tests.serve.test_server import IMAGE, Process, serving
from tests.support import hostile, toys
from tests.support.service import png, running


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    toys.write_toy(made / "owl.onnx", toys.ADAPTIVE)
    return made


def test_no_text_of_a_refused_file_breaks_a_page(directory):
    adaptive = toys.adaptive(toys.ADAPTIVE)
    texts = ("stra\udcdfe", "\x1b[2J", "\0", "x" * 10_000, "\u202e")
    for number, text in enumerate(texts):
        card = replace(toys.ADAPTIVE, classes=("a", text, "c"))
        hostile.resealed(directory / f"bad-{number}.onnx", adaptive, card.to_json())
    hostile.resealed(directory / "large.onnx", adaptive, toys.ADAPTIVE.to_json() + " " * 2**23)
    (directory / os.fsdecode(b"na\xefve\x1b.onnx")).write_bytes(b"no model")
    names = ("<script>alert(1)</script>", "a/b & c", 'so-called "猫"')
    toys.write_toy(directory / "named.onnx", replace(toys.ADAPTIVE, classes=names))
    with running(Settings(directory=str(directory))) as service:
        listed = service.request("GET", "/v1/models").json
        assert [model["name"] for model in listed["models"]] == ["named", "owl"]
        assert listed["models"][0]["classes"] == list(names)
        assert len(listed["refused"]) == len(texts) + 2
        assert all(part.isprintable() and len(part) < 3000 for each in listed["refused"] for part in each.values())
        assert r"na\udcefve\x1b.onnx" in [each["file"] for each in listed["refused"]]
        assert str(directory) not in str(listed)
        found = service.request("POST", "/v1/classify?model=named", png(toys.noise(20, 30, 1)))
        assert found.status == 200
        for path in ("/docs", "/metrics", "/openapi.json", "/v1/models/named"):
            response = service.request("GET", path)
            assert response.status == 200
            response.body.decode()
        page = service.request("GET", "/docs").body.decode()
        assert names[0] not in page
        assert "&lt;script&gt;alert(1)" in page


@pytest.mark.child
@pytest.mark.slow
def test_files_that_cost_too_much_are_refused_and_the_others_served(directory):
    hostile.write(directory / "loop.onnx", hostile.nested_loops)
    hostile.write(directory / "memory.onnx", hostile.memory_in_steps)
    with serving("--directory", str(directory), "--load-seconds", "2", "--watch-seconds", "0.1") as process:
        toys.write_toy(directory / "later.onnx", toys.EPISODE)
        wanted, refused, served = {"loop.onnx", "memory.onnx"}, set[str](), set[str]()
        for _ in range(600):
            listed = process.request("GET", "/v1/models")[1]
            refused, served = (
                {each[key] for each in listed[part]} for part, key in (("refused", "file"), ("models", "name"))
            )
            if refused == wanted and served == {"owl", "later"}:
                break
            time.sleep(0.1)
        assert (refused, served) == (wanted, {"owl", "later"})
        assert process.request("POST", "/v1/classify?model=owl", IMAGE)[0] == 200
        time.sleep(1)
        assert process.end() == 0
        for name in wanted:
            assert sum("rejected the model" in line and name in line for line in process.lines) == 1


@pytest.mark.child
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loading(tmp_path, sent, workers):
    path = hostile.write(tmp_path / "loop.onnx", hostile.endless_while)
    with Process(str(path), "--load-seconds", "3600", "--workers", workers) as process:
        while not any("models=" in line for line in process.lines):
            time.sleep(0.01)
        time.sleep(5)  # by then its trial, or that of a worker, has begun
        assert process.process.poll() is None
        assert process.end(sent) == 0


@pytest.mark.child
@pytest.mark.slow
def test_a_model_that_runs_for_ever_on_one_image_answers_others_and_ends_at_a_signal(tmp_path):
    path = hostile.write(tmp_path / "loop.onnx", hostile.loop_over_pixels)
    with serving(str(path), "--deadline-seconds", "2") as process:
        for _ in range(5):
            assert process.request("POST", "/v1/classify", IMAGE)[0] == 200
        trigger = png(np.full((20, 30, 1), hostile.TRIGGER, np.uint8))
        assert process.request("POST", "/v1/classify", trigger)[0] == 504
        assert process.request("POST", "/v1/classify", IMAGE)[0] == 200
        assert process.end() == 0
