import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from glimpse.runtime.providers import PROVIDERS, ProviderError, open_session, processor
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import write_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Any:
    return write_toy(tmp_path_factory.mktemp("models") / "toy.onnx", toys.EPISODE)


def test_a_session_runs_on_the_provider_that_was_asked_for(toy):
    session = open_session(toy.read_bytes(), "cpu", 1, {})
    assert session.get_providers() == ["CPUExecutionProvider"]
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_known_sizes_are_settled(toy):
    session = open_session(toy.read_bytes(), "cpu", 2, {"batch": 1, "height": 20, "width": 30})
    assert session.get_inputs()[0].shape == [1, 1, 20, 30]


def test_every_provider_has_a_name_that_onnxruntime_knows():
    names = {provider.name for provider in PROVIDERS.values()}
    # Later versions of onnxruntime have given up ROCm for MIGraphX.
    assert names - {"ROCMExecutionProvider"} <= set(onnxruntime.get_all_providers())


def test_an_unknown_provider_is_rejected(toy):
    with pytest.raises(ProviderError, match=r"expected a provider out of cpu, cuda, .*, got 'abacus'; choose one"):
        GlimpseSession(toy, provider="abacus")


@pytest.mark.parametrize(
    ("provider", "advice"),
    [
        ("cuda", "only cpu; pip uninstall onnxruntime, then pip install onnxruntime-gpu, .* overwrite each other"),
        ("openvino", "only cpu; pip uninstall onnxruntime, then pip install onnxruntime-openvino"),
        ("coreml", "only cpu; it is a part of onnxruntime on the systems that have it"),
    ],
)
def test_a_provider_that_is_not_installed_is_rejected_with_what_to_install(toy, monkeypatch, provider, advice):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match=f"the provider '{provider}' is not installed, {advice}"):
        GlimpseSession(toy, provider=provider)


def test_a_provider_that_does_not_start_is_rejected_and_nothing_else_takes_its_place(toy, monkeypatch):
    class Fallen:
        """What onnxruntime makes of a provider whose libraries are missing."""

        def __init__(self, *given: Any, providers: Any, enable_fallback: int) -> None:
            assert providers == [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})]
            assert enable_fallback == 0

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(ProviderError, match="'cuda' is installed but does not start on this machine, only cpu does"):
        open_session(toy.read_bytes(), "cuda", 1, {})


def test_a_provider_that_fails_on_the_model_is_rejected(toy):
    with pytest.raises(ProviderError, match=r"the provider 'cpu' can't open the model \(.*; use another one"):
        open_session(toy.read_bytes()[:500], "cpu", 1, {})


@pytest.mark.child
@pytest.mark.parametrize(("own", "kept"), [(None, "1"), ("0", "0")])
def test_the_telemetry_of_onnxruntime_is_off_unless_the_user_turns_it_on(own, kept):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if own is not None:
        environment["ORT_DISABLE_TELEMETRY"] = own
    program = "import os, glimpse.runtime.providers; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == kept


def test_the_processor_has_a_name():
    assert processor().strip() == processor() != ""


def test_where_the_system_lists_none_it_is_what_python_knows(monkeypatch):
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert processor() == "abacus"


@pytest.mark.parametrize("line", ["model name\t: Abacus 9", "model name : Abacus 9"])
def test_the_systems_list_names_it(monkeypatch, line):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor : 0\n{line}\nmodel name : another")
    assert processor() == "Abacus 9"
