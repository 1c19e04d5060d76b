"""Every command that a help or a manual prints works: trainings as dry runs, the rest for real or parsed."""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.cli import app
from glimpse.cli.train.recipes import find_recipe
from glimpse.cli.train.run.dry_run import dry_run
from glimpse.cli.train.run.resuming import find_run
from glimpse.data.datasets import SOURCES, Source, Split
from tests.support.toys import ADAPTIVE, write_toy

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
MANUALS = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
REAL = ("evaluate", "inspect", "classify", "explain")
"""Subcommands that answer within seconds; the others train, compile, or go on until they are stopped."""
QUICK = ["--data.passes", "1", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--model.hidden", "8"]


def commands_in(text: str) -> list[str]:
    """The lines of a text that call the command."""
    return re.findall(r"^ *(glimpse [a-z].*)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE)


def helps() -> Iterator[tuple[str, str]]:
    """The examples of each subcommand's help, with the place."""
    for entry in app.SUBCOMMANDS:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            app.main([entry.name, "--help"])
        _, _, text = output.getvalue().partition("\nexamples:\n")
        yield from ((f"{entry.name} --help", command) for command in commands_in(text))


def manuals() -> Iterator[tuple[str, str]]:
    """The commands in the manuals' blocks of code, with the place."""
    for path in MANUALS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            yield from ((path.name, command) for command in commands_in(block))


EXAMPLES = [*helps(), *manuals()]


def draw(path: Path, seed: int, width: int = 40, height: int = 36) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def stand_in(root: str | None, download: bool) -> Source:
    """Noise of the size of MNIST, in its place: nothing is downloaded."""
    generator = torch.Generator().manual_seed(0)
    part = Split(torch.randint(0, 256, (60, 1, 28, 28), generator=generator).to(torch.uint8), torch.arange(60) % 10)
    return Source(part, part, part, tuple("0123456789"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with folders of classes, and in ``work`` what else the examples name: images and models."""
    home = tmp_path_factory.mktemp("home")
    work = home / "work"
    for seed, root in enumerate((home / "pictures", home / "images", home / "others", work / "DIR")):
        kinds = ("ant", "bee") if root.name == "others" else ("ant", "bee", "cat")
        for number in range(36):
            name = f"sign_{number // 2:05}_{number % 2:04}.png"
            draw(root / kinds[number % len(kinds)] / name, 100 * seed + number)
    rows = [f"{path.relative_to(work / 'DIR')},{path.parent.name}" for path in (work / "DIR").rglob("*.png")]
    (work / "labels.csv").write_text("\n".join(["path,label", *rows]))
    for name in ("photo.png", "slide.tif", "photos/one.png", "photos/two.jpg", "images/one.png"):
        draw(work / name, 1)
    with contextlib.chdir(work), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        assert app.main(["train", "--config", "folder", "--data.root", "~/pictures", *QUICK]) == 0
        assert app.main(["train", *QUICK]) == 0
    shutil.copytree(work / "runs" / "folder", work / "runs" / "mine")
    (work / "runs" / "pictures").mkdir()
    shutil.copy(work / "runs" / "folder" / "last.ckpt", work / "runs" / "pictures" / "model.ckpt")
    for name in (
        "runs/pictures/model.onnx",
        "runs/folder/model.onnx",
        "runs/digits/model.onnx",
        "model.onnx",
        "other.onnx",
        "models/a.onnx",
    ):
        (work / name).parent.mkdir(exist_ok=True)
        write_toy(work / name, ADAPTIVE)
    return home


@pytest.mark.parametrize(("place", "command"), EXAMPLES, ids=[f"{place}: {command}" for place, command in EXAMPLES])
def test_a_printed_command_does_what_it_says(place, command, home, monkeypatch, capsys) -> None:
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setitem(SOURCES, "mnist", stand_in)
    _, name, *args = shlex.split(command, comments=True)
    if "--resume" in args:
        assert find_run(args[args.index("--resume") + 1]).is_dir()
        return
    if name == "train" and args and not args[0].startswith("-"):
        assert app.main([name, *args, "--minutes", "0.01"]) == 0, capsys.readouterr().err
        return
    if name == "train":
        dry_run(args, "glimpse train")
        return
    chosen = app.parse([name, *args])
    files = [arg for arg in args if re.search(r"\.(ckpt|onnx|png)$", arg) and "=" not in arg]
    assert [file for file in files if not Path(file).exists()] == []
    if name in REAL:
        assert app.main([name, *args]) == 0, capsys.readouterr().err
    elif name == "serve":
        import_module("glimpse_serve.settings").settings_from(chosen, {})
    elif name == "compare":
        assert all(find_recipe(recipe) for recipe in args)


def test_the_examples_are_found() -> None:
    places = {place for place, _ in EXAMPLES}
    assert {"train --help", "README.md", "folders.md", "exported.md", "deployment.md", "service.md"} <= places
    assert commands_in("  glimpse serve\n$ curl x\nglimpse is a word\n") == ["glimpse serve", "glimpse is a word"]


def test_the_targets_of_make_that_the_manuals_name_are_there() -> None:
    texts = [path.read_text(encoding="utf-8") for path in MANUALS]
    named = {target for text in texts for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)}
    there = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test"} <= named <= set(there)
