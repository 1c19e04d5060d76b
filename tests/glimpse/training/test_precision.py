"""The decision between bfloat16 and float32, with every answer of the hardware; no recipe decides for it."""

from pathlib import Path

import pytest
import torch
import yaml
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator

from glimpse.training import precision
from glimpse.training.precision import Support, bfloat16_support, choose_precision, device_of, full_name

REPOSITORY = Path(__file__).parents[3]
RECIPES = sorted(
    [*(REPOSITORY / "glimpse/cli/train/configs").glob("*.yaml"), *(REPOSITORY / "benchmarks/recipes").glob("*.yaml")]
)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch):
    """A function that pretends a processor: its kind, what oneDNN says, and whether it has AVX512_BF16."""

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)

    def pretend(machine: str, onednn: bool, avx512_bf16: bool) -> None:
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)

    return pretend


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512_bf16", "fast"),
    [
        pytest.param("x86_64", False, False, False, id="AVX2 alone: most laptops"),
        pytest.param("x86_64", True, False, False, id="AVX-512 without bfloat16: oneDNN emulates it"),
        pytest.param("AMD64", True, False, False, id="the same under Windows"),
        pytest.param("x86_64", True, True, True, id="Zen 4, Cooper Lake, Sapphire Rapids"),
        pytest.param("x86_64", False, True, False, id="oneDNN was forbidden the instructions"),
        pytest.param("aarch64", True, False, True, id="ARM with FEAT_BF16"),
        pytest.param("aarch64", False, False, False, id="ARM without it"),
        pytest.param("arm64", False, False, False, id="Apple's processor"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_instructions_for_it(machine, onednn, avx512_bf16, fast, hardware):
    hardware(machine, onednn, avx512_bf16)
    chosen = choose_precision("auto", "cpu")
    assert chosen.name == ("bf16-mixed" if fast else "32-true")
    assert chosen.reason == f"this processor has {'' if fast else 'no '}bfloat16 instructions"
    assert chosen.title == ("bfloat16" if fast else "float32")
    assert chosen.warning == ""


@pytest.mark.parametrize(
    ("allowed", "fast"),
    [("AVX512_CORE", False), ("avx512_core_vnni", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True), ("ALL", True)],
)
def test_instructions_that_onednn_may_not_use_do_not_count(allowed, fast, hardware, monkeypatch):
    hardware("x86_64", True, True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
    assert bfloat16_support("cpu").has_bfloat16 == fast


@pytest.mark.parametrize("found", [True, False])
def test_a_gpu_is_asked_without_its_emulation(found: bool, monkeypatch, hardware):
    hardware("x86_64", not found, not found)
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return found

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", "cuda").name == ("bf16-mixed" if found else "32-true")
    assert bfloat16_support("cuda").reason == f"this GPU has {'' if found else 'no '}bfloat16 instructions"
    assert set(asked) == {False}


def test_a_device_that_was_not_measured_takes_float32(hardware):
    hardware("arm64", True, True)
    assert choose_precision("auto", "mps")[:2] == ("32-true", "bfloat16 was not measured on mps")


@pytest.mark.parametrize("given", ["bf16-mixed", "bf16"])
def test_a_users_choice_is_taken_and_warned_of_where_it_is_slow(given, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_support", lambda device: Support(False, "there are none"))
    chosen = choose_precision(given, "cpu")
    assert (chosen.name, chosen.reason) == ("bf16-mixed", "")
    assert chosen.warning == "there are none: bfloat16 is likely to be several times slower than float32"
    monkeypatch.setattr(precision, "bfloat16_support", lambda device: Support(True, "there are some"))
    assert choose_precision(given, "cpu") == ("bf16-mixed", "", "")


@pytest.mark.parametrize(("given", "name"), [(32, "32-true"), ("32-true", "32-true"), ("16", "16-mixed")])
def test_another_choice_asks_no_hardware(given, name, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_support", None)
    assert choose_precision(given) == (name, "", "")


def test_full_names():
    assert [full_name(given) for given in (None, "auto", 16, "64-true")] == ["auto", "auto", "16-mixed", "64-true"]


def test_the_device_is_the_one_that_the_trainer_takes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [device_of(given) for given in ("auto", "gpu", "cpu", "mps")] == ["cuda", "cuda", "cpu", "mps"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [device_of(given) for given in ("auto", "gpu", "cuda")] == ["mps", "mps", "cuda"]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == "cpu"
    assert [device_of(kind()) for kind in (CPUAccelerator, CUDAAccelerator, MPSAccelerator)] == [
        "cpu",
        "cuda",
        "MPSAccelerator",
    ]


@pytest.mark.parametrize("fast", [True, False])
def test_the_trainer_computes_in_what_was_chosen(fast, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_support", lambda device: Support(fast, device))
    trainer = precision.PrecisionTrainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer.precision == trainer.chosen_precision.name == ("bf16-mixed" if fast else "32-true")
    assert trainer.chosen_precision.reason == "cpu"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_no_recipe_names_a_precision_of_its_own(file):
    trainer = yaml.safe_load(file.read_text(encoding="utf-8")).get("trainer", {})
    assert trainer.get("precision", "auto") == "auto"
