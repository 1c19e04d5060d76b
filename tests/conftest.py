"""What every test shares: threads that don't spin, signatures that are checked, real images, and one exported model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from jaxtyping import install_import_hook

from tests.support.children import ForkServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from glimpse.contract.card import ModelCard
    from glimpse.export.graph.fragment import Fragment
    from glimpse.models.hard import HardAttention, HardObserver

REPOSITORY = Path(__file__).resolve().parents[1]

# Before torch is imported: the tests' kernels are tiny, and on few cores two spinning threads are slower than one.
for variable, value in {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "KMP_BLOCKTIME": "0",
    "GOMP_SPINCOUNT": "0",
}.items():
    os.environ.setdefault(variable, value)

# Before glimpse is imported: shapes and types in our signatures are checked at every call under pytest, and only there.
# Dynamo can't trace the hook, so tests of export, while_loop and torch.compile run in a subprocess, which has none.
# GLIMPSE_NO_TYPECHECK=1 leaves it out of a whole run, to measure or to step through with a debugger.
if not os.environ.get("GLIMPSE_NO_TYPECHECK"):
    install_import_hook(["glimpse", "glimpse_envs", "glimpse_serve"], "beartype.beartype")


running: list[pytest.Item] = []
"""The test that runs, with its fixtures; none between tests."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the users of ``without_hook``, which starts a Python process; who starts one otherwise is marked by hand."""
    for item in items:
        if "without_hook" in getattr(item, "fixturenames", ()):
            item.add_marker("child")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember which test runs."""
    running.append(item)
    try:
        return (yield)
    finally:
        running.clear()


def refuse_unmarked(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a Python process to a test that is not marked, so that ``make test-fast`` is rid of all that start one."""
    if event != "subprocess.Popen" or not running or running[0].get_closest_marker("child"):
        return
    if Path(os.fsdecode(arguments[0])).name.startswith("python"):
        raise RuntimeError(f"{running[0].nodeid} starts a Python process; mark it with @pytest.mark.child")


sys.addaudithook(refuse_unmarked)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Folder that holds MNIST/raw, as ``torchvision.datasets.MNIST(root=...)`` wants it; skips where there is none.

    ``GLIMPSE_DATA`` names it; without that, it is a folder ``shared/data`` beside the checkout.
    """
    named = os.environ.get("GLIMPSE_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {root}; set GLIMPSE_DATA to the folder that holds MNIST/raw")
    return root


@pytest.fixture(scope="session", params=["digits", "mnist"])
def real_images(request: pytest.FixtureRequest) -> Tensor:
    """Held-out digits on canvases wider than they are high, uint8 (24, 1, 44, 60)."""
    from glimpse.data.datamodule import ImageData

    root = str(request.getfixturevalue("mnist_root")) if request.param == "mnist" else None
    data = ImageData(request.param, root, canvas_height=44, canvas_width=60, num_pieces=3)
    images: Tensor = next(iter(data.test_dataloader()))[0][:24]
    return images


class Exported(NamedTuple):
    """A model, and the files that it was exported to."""

    path: Path
    """The adaptive graph."""
    episode: Path
    step: Path
    model: HardAttention
    glimpse_size: int
    num_scales: int
    zoom: int
    num_glimpses: int
    images: Tensor
    """What the two were compared on, uint8 (8, 1, 40, 52)."""


SMALL = {
    "num_classes": 10,
    "channels": 1,
    "glimpse_size": 6,
    "num_scales": 2,
    "hidden": 20,
    "what": "conv",
    "combine": "multiply",
    "core": "gru",
    "policy": "gaussian",
    "relative": True,
    "gaze": "eyes",
    "gaze_hidden": 12,
}
EXPORT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from glimpse.contract.card import ModelCard
from glimpse.export.model import export_model, versions
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.nn.retina import Retina

folder, small = Path(sys.argv[1]), json.loads(sys.argv[2])
model = HardAttention(**small)
model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
images = torch.load(folder / "images.pt", weights_only=True)
channels, height, width = images.shape[1:]
card = ModelCard(
    model="hard", graph="adaptive", classes=tuple("0123456789"), channels=channels, height=height, width=width,
    num_glimpses=3, glimpse_size=6, num_scales=2, zoom=2, state_size=32, has_maps=False, any_size=True, data="digits",
    recipe=small, versions=versions(), multiply_accumulates=(1000, 2000, 3000), budgets=(),
    parameters=sum(parameter.numel() for parameter in model.parameters()),
)
for graph, name, state_size in (("adaptive", "model", 32), ("episode", "episode", None), ("step", "step", 32)):
    of_graph = replace(card, graph=graph, state_size=state_size)
    export_model(HardObserver(model, Retina(6, 2, 2), 3), of_graph, folder / f"{name}.onnx", images)
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> Exported:
    """A small model of random weights with a restless gaze, exported once a session, without the hook."""
    import torch

    from glimpse.data.datamodule import ImageData

    folder = tmp_path_factory.mktemp("exported")
    data = ImageData("digits", canvas_height=40, canvas_width=52, num_pieces=3)
    images = next(iter(data.test_dataloader()))[0][:8].clone()
    model = restless(SMALL, 7, torch.tensor([0.13]), torch.tensor([0.31]))
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(images, folder / "images.pt")
    without_hook(EXPORT, str(folder), json.dumps(SMALL))
    adaptive, episode, step = (folder / f"{name}.onnx" for name in ("model", "episode", "step"))
    return Exported(adaptive, episode, step, model, 6, 2, 2, 3, images)


def restless(options: dict[str, Any], seed: int, mean: Tensor, std: Tensor) -> HardAttention:
    """A hard model of random weights whose gaze and beliefs depend on what it sees."""
    import torch

    from glimpse.models.hard import HardAttention

    torch.manual_seed(seed)
    model = HardAttention(**options).eval()
    model.mean.copy_(mean)
    model.std.copy_(std)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not name.startswith(("core", "gaze_core")):
            torch.nn.init.kaiming_normal_(parameter, a=0.2)
    head = "scores" if options["policy"] == "grid" else "mean"
    torch.nn.init.normal_(getattr(model.policy, head).weight, std=1.5)
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    return model


def keep_in_sight(model: HardAttention, glimpses: Tensor) -> None:
    """Centre and scale the policy, so that the gaze wanders over the image and does not end in a corner."""
    import torch

    head: Any = getattr(model.policy, "scores" if hasattr(model.policy, "scores") else "mean")
    state = model.initial_state(len(glimpses))
    with torch.no_grad():
        for _ in range(2):
            step = model(glimpses, torch.zeros(len(glimpses), 2), state)
            state = step.state
        scale = 0.5 / step.policy.std(0)
        head.bias.copy_((head.bias - step.policy.mean(0)) * scale)
        head.weight.mul_(scale[:, None])


@pytest.fixture(scope="session")
def without_hook() -> Iterator[Callable[..., str]]:
    """:meth:`tests.support.children.ForkServer.run`: run a program in a process that does not check signatures."""
    with ForkServer() as server:
        yield server.run


class Stepping(NamedTuple):
    """A hard model and its step as torch exported it."""

    name: str
    options: dict[str, Any]
    model: HardAttention
    file: Path

    @property
    def channels(self) -> int:
        channels: int = self.options["channels"]
        return channels

    @property
    def glimpse_shape(self) -> tuple[int, int, int, int]:
        size = self.options["glimpse_size"]
        return (self.options["num_scales"], self.channels, size, size)

    @property
    def fragment(self) -> Fragment:
        """The step, a new copy each time."""
        import onnx

        from glimpse.export.graph.fragment import _fragment_of

        return _fragment_of(onnx.load(str(self.file)), self.glimpse_shape)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        from glimpse.export.graph.fragment import state_sizes

        return state_sizes(self.model)

    def observer(self, num_glimpses: int) -> HardObserver:
        from glimpse.models.hard import HardObserver
        from glimpse.nn.retina import Retina

        return HardObserver(
            self.model, Retina(self.options["glimpse_size"], self.options["num_scales"], 2), num_glimpses
        )

    def card(self, graph: str, **changes: Any) -> ModelCard:
        """What a file of it would say."""
        from glimpse.contract.card import ModelCard

        known: dict[str, Any] = {
            "model": "hard",
            "graph": graph,
            "classes": tuple("abcde"),
            "channels": self.channels,
            "height": 20,
            "width": 26,
            "num_glimpses": 4,
            "glimpse_size": self.options["glimpse_size"],
            "num_scales": self.options["num_scales"],
            "zoom": 2,
            "state_size": None if graph == "episode" else sum(self.state_sizes),
            "has_maps": False,
            "any_size": True,
            "data": "noise",
            "recipe": {},
            "versions": {},
        }
        return ModelCard(**(known | changes))

    def images(self, batch: int, height: int = 20, width: int = 26, seed: int = 0) -> Tensor:
        """Noise that is coarse enough for every scale to show it, uint8."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(batch, self.channels, -(-height // 5), -(-width // 5), generator=generator)
        fine = coarse.repeat_interleave(5, 2).repeat_interleave(5, 3)[:, :, :height, :width]
        noise = torch.rand(batch, self.channels, height, width, generator=generator)
        return ((0.8 * fine + 0.2 * noise) * 255).to(torch.uint8)


_GENERAL = {"num_classes": 5, "glimpse_size": 4, "num_scales": 2, "hidden": 12, "gaze_hidden": 8, "policy": "gaussian"}
STEPS: dict[str, dict[str, Any]] = {
    "conv-gru": {**_GENERAL, "channels": 1, "what": "conv", "combine": "multiply", "core": "gru", "gaze": "eyes"},
    "mlp-gru": {**_GENERAL, "channels": 3, "combine": "add", "core": "gru", "gaze": "eyes", "relative": False},
    "mlp-lstm": {**_GENERAL, "channels": 1, "core": "lstm", "gaze": "nothing", "policy": "grid", "grid_cells": 3},
    "mlp-plain": {**_GENERAL, "channels": 3, "num_scales": 1, "core": "plain", "gaze": "layer"},
}
STEP = """
import json, sys
from pathlib import Path
import numpy as np
import onnx
import torch
from onnx import helper
from glimpse.export.graph.builder import OPSET, value
from glimpse.export.graph.fragment import export_step
from glimpse.models.hard import HardAttention

folder = Path(sys.argv[1])
for name, options in json.loads(sys.argv[2]).items():
    model = HardAttention(**options)
    model.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    size = options["glimpse_size"]
    fragment = export_step(model, (options["num_scales"], options["channels"], size, size))
    ends = [[value(name, np.float32, ()) for name in names] for names in (fragment.inputs, fragment.outputs)]
    graph = helper.make_graph(fragment.nodes, "step", *ends, list(fragment.weights.values()))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), str(folder / f"{name}.onnx"))
"""


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> dict[str, Stepping]:
    """Hard models of every kind of part and their steps, exported once a session, without the hook."""
    import torch

    folder = tmp_path_factory.mktemp("steps")
    made = {}
    for seed, (name, options) in enumerate(STEPS.items()):
        channels = torch.arange(options["channels"])
        model = restless(options, seed, 0.2 + 0.1 * channels, 0.3 + 0.05 * channels)
        made[name] = Stepping(name, options, model, folder / f"{name}.onnx")
        locations = torch.rand(200, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        keep_in_sight(model, made[name].observer(1).retina(made[name].images(200), locations))
        torch.save(model.state_dict(), folder / f"{name}.pt")
    without_hook(STEP, str(folder), json.dumps(STEPS))
    return made


@pytest.fixture(params=STEPS)
def stepping(request: pytest.FixtureRequest, steps: dict[str, Stepping]) -> Stepping:
    """Each of ``steps``."""
    return steps[request.param]
