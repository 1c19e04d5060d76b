"""The execution providers of onnxruntime by short names, and sessions on them."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime


class Provider(NamedTuple):
    """One of onnxruntime's execution providers."""

    name: str
    """What onnxruntime calls it."""
    package: str
    """The Python package that has it."""
    options: dict[str, str] = {}  # noqa: RUF012 (a field of a NamedTuple, and nothing writes to it)
    """Its options in onnxruntime."""


PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime"),
    # TF32 keeps 10 bits of a factor, which is enough to change the fixations.
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", {"use_tf32": "0"}),
    "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "dml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "rocm": Provider("ROCMExecutionProvider", "onnxruntime-rocm"),
    "migraphx": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx"),
}
"""By the names that Glimpse gives them."""


DEVICES = frozenset({"cuda", "tensorrt", "dml", "rocm", "migraphx"})
"""Those that run on a GPU."""


class ProviderError(ValueError):
    """An execution provider that is unknown, is not installed, or does not work on this machine."""


def open_session(file: bytes, provider: str, threads: int, sizes: Mapping[str, int]) -> Any:
    """Open an ONNX file on an execution provider, with the CPU for what that one can't do.

    Args:
        file: The file's bytes.
        provider: One of ``PROVIDERS``.
        threads: Threads within an operator; they do not spin while they wait.
        sizes: What the graph's named dimensions are, where they are known: onnxruntime then works out beforehand
            whatever depends on nothing else.

    Raises:
        ProviderError: When there is no such provider, or it does not start.
    """
    if provider not in PROVIDERS:
        raise ProviderError(f"expected a provider out of {', '.join(PROVIDERS)}, got {provider!r}; choose one of them")
    wanted, there = PROVIDERS[provider], onnxruntime.get_available_providers()
    if wanted.name not in there:
        raise ProviderError(
            f"the provider {provider!r} is not installed, only {_in_short(there)}; {_advice(wanted.package)}"
        )
    settings = quiet_options(threads)
    # With all sizes known the memory is little, and to lay it out without reuse was measured 4 % faster.
    settings.enable_mem_reuse = not sizes
    for name, size in sizes.items():
        settings.add_free_dimension_override_by_name(name, size)
    chosen = [(wanted.name, wanted.options), *[("CPUExecutionProvider", {})] * (provider != "cpu")]
    try:
        session = onnxruntime.InferenceSession(file, settings, providers=chosen, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no parent of their own
        raise ProviderError(
            f"the provider {provider!r} can't open the model ({error}); use another one, such as 'cpu'"
        ) from error
    running = session.get_providers()
    if running[0] != wanted.name:
        raise ProviderError(
            f"the provider {provider!r} is installed but does not start on this machine, only {_in_short(running)} "
            "does; see to its driver and libraries, or use that one"
        )
    return session


def quiet_options(threads: int) -> Any:
    """Settings of a session that prints nothing and whose threads do not spin.

    Args:
        threads: Threads within an operator.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 4
    return settings


def _in_short(names: list[str]) -> str:
    short = {provider.name: name for name, provider in PROVIDERS.items()}
    return ", ".join(short.get(name, name) for name in names)


def _advice(package: str) -> str:
    if package == "onnxruntime":
        return "it is a part of onnxruntime on the systems that have it, so use another one here"
    return (
        f"pip uninstall onnxruntime, then pip install {package}, which takes its place: both at once overwrite each "
        "other"
    )


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
