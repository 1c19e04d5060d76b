"""The number format that a training computes in: bfloat16 where the hardware has instructions for it, else float32."""

import os
import platform
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator

AUTO = "auto"
FLOAT32, BFLOAT16, FLOAT16 = "32-true", "bf16-mixed", "16-mixed"
TRAINING_PRECISIONS = (AUTO, FLOAT32, BFLOAT16, FLOAT16)
"""Those that a model trains in, by Lightning's names; the weights are float32 in each."""
_FORMATS = {FLOAT32: "float32", BFLOAT16: "bfloat16", FLOAT16: "float16"}
_SHORT_NAMES = {"32": FLOAT32, "bf16": BFLOAT16, "16": FLOAT16}
"""Lightning's short names."""
_WITHOUT_BFLOAT16 = ("AVX512_CORE", "AVX512_CORE_VNNI")
"""Instruction sets with AVX-512 and without bfloat16, as oneDNN's environment variable names them."""
_X86 = ("x86_64", "amd64", "i386", "i686")


class Support(NamedTuple):
    """Whether a device has instructions for bfloat16."""

    has_bfloat16: bool
    reason: str
    """A clause that says so."""


class ChosenPrecision(NamedTuple):
    """The precision of a training."""

    name: str
    """Lightning's name, never ``auto``."""
    reason: str
    """Why it was chosen; empty where the user chose it."""
    warning: str
    """What the user's own choice costs; empty where it costs nothing."""

    @property
    def title(self) -> str:
        """The format's name; what is mixed computes in it and keeps its weights in float32."""
        return _FORMATS.get(self.name, self.name)


def bfloat16_support(device: str) -> Support:
    """Find whether a device computes faster in bfloat16 than in float32.

    On x86, oneDNN says that it supports bfloat16 wherever there is AVX-512. Without the extension AVX512_BF16 (Intel
    from Cooper Lake on, AMD from Zen 4 on; every processor with AMX has it) it converts to float32 and back, which is
    slower than float32. Its environment variable may forbid it the instructions. On ARM, it looks for the instructions
    themselves (FEAT_BF16).

    Args:
        device: ``cpu``, ``cuda``, or another kind of device, for which bfloat16 was not measured.
    """
    if device == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
        return Support(found, f"this GPU has {'' if found else 'no '}bfloat16 instructions")
    if device != "cpu":
        return Support(False, f"bfloat16 was not measured on {device}")
    found = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if found and platform.machine().lower() in _X86:
        forbidden = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16
        found = bool(torch.cpu._is_avx512_bf16_supported()) and not forbidden
    return Support(found, f"this processor has {'' if found else 'no '}bfloat16 instructions")


def device_of(accelerator: str | Accelerator) -> str:
    """The kind of device that Lightning's trainer takes.

    Args:
        accelerator: The trainer's argument.
    """
    if isinstance(accelerator, CPUAccelerator):
        return "cpu"
    if isinstance(accelerator, CUDAAccelerator):
        return "cuda"
    if not isinstance(accelerator, str):
        return type(accelerator).__name__
    if accelerator not in ("auto", "gpu"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def full_name(given: str | int | None) -> str:
    """Lightning's full name of a precision that may be given by a short one, such as 32; ``auto`` for None."""
    return AUTO if given is None else _SHORT_NAMES.get(str(given), str(given))


def choose_precision(given: str | int | None, accelerator: str | Accelerator = "auto") -> ChosenPrecision:
    """Choose the precision of a training.

    Args:
        given: One of ``TRAINING_PRECISIONS``, or Lightning's short name for one; None is ``auto``. What the user names
            is taken.
        accelerator: The trainer's argument.
    """
    name = full_name(given)
    if name not in (AUTO, BFLOAT16):
        return ChosenPrecision(name, "", "")
    support = bfloat16_support(device_of(accelerator))
    if name == AUTO:
        return ChosenPrecision(BFLOAT16 if support.has_bfloat16 else FLOAT32, support.reason, "")
    slow = (
        "" if support.has_bfloat16 else f"{support.reason}: bfloat16 is likely to be several times slower than float32"
    )
    return ChosenPrecision(name, "", slow)


class PrecisionTrainer(Trainer):
    """Lightning's trainer, with a precision that suits the hardware.

    Args:
        accelerator: The kind of device: auto, cpu, gpu, or another that Lightning knows.
        precision: auto (bfloat16 where the device has instructions for it, else float32), 32-true, bf16-mixed or
            16-mixed.
        options: The other arguments of Lightning's trainer.
    """

    def __init__(
        self, *, accelerator: str | Accelerator = "auto", precision: str | int | None = AUTO, **options: Any
    ) -> None:
        self.chosen_precision = choose_precision(precision, accelerator)
        super().__init__(accelerator=accelerator, precision=self.chosen_precision.name, **options)  # type: ignore[arg-type]
