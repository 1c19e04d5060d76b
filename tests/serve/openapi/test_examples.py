"""The recorded examples are the responses of the service.

``GLIMPSE_RECORD=1 pytest tests/serve/openapi/test_examples.py`` sends the requests to the bundled models and records
the responses.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from glimpse_serve.models.bundled import SOFT
from glimpse_serve.openapi import examples
from glimpse_serve.openapi.examples import ERRORS, MODEL, SAMPLES, Sample
from glimpse_serve.settings import Settings
from tests.support.service import Running, ServiceResponse, running, toy_files
from tests.support.toys import ADAPTIVE, STEP, write_toy

FILE = Path(examples.__file__).with_name("examples.json")
RECORD = bool(os.environ.get("GLIMPSE_RECORD"))
NAMED_BY_MODELS = ("probabilities", "recipe", "versions")
"""Objects whose entries are each model's own."""


@pytest.fixture(scope="module")
def bundled():
    with running(Settings()) as made:
        if RECORD:
            messages = {name: request(made, sample, MODEL).json for name, sample in SAMPLES.items()}
            messages |= {str(status): request(made, sample, MODEL).json for status, sample in ERRORS.items()}
            FILE.write_text(json.dumps(messages, indent=1) + "\n")
            examples.responses.cache_clear()
        yield made


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def request(service: Running, sample: Sample, model: str) -> ServiceResponse:
    kind = {"Content_Type": sample.media_type} if sample.media_type else {}
    return service.request(sample.method, sample.path.format(model=model), sample.body or None, **kind)


def form_of(value: Any, name: str = "") -> Any:
    """A value with types in place of texts and numbers, and one entry for all that a list holds."""
    if isinstance(value, dict):
        return "object" if name in NAMED_BY_MODELS else {each: form_of(value[each], each) for each in sorted(value)}
    if isinstance(value, list):
        forms = [form_of(each) for each in value]
        return [multipart_form for place, multipart_form in enumerate(forms) if multipart_form not in forms[:place]]
    return "number" if isinstance(value, float | int) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("name", SAMPLES)
def test_a_bundled_model_responds_in_the_form_of_its_example(bundled, name):
    response = request(bundled, SAMPLES[name], MODEL)
    assert response.status == 200
    assert form_of(response.json) == form_of(examples.responses()[name])


@pytest.mark.parametrize("name", ["classified", "several", "inferred"])
def test_it_predicts_as_in_the_example(bundled, name):
    def beliefs(messages: Any) -> Any:
        if name == "inferred":
            return messages["outputs"][0]["shape"]
        return [example_image.get("class") for example_image in messages.get("images", [messages])]

    assert beliefs(request(bundled, SAMPLES[name], MODEL).json) == beliefs(examples.responses()[name])


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("model", "models")])
def test_another_model_responds_in_the_same_form(toys, name):
    response = request(toys, SAMPLES[name], "adaptive")
    assert form_of(response.json) == form_of(examples.responses()[name])


@pytest.mark.parametrize("status", ERRORS)
def test_an_error_is_the_one_of_the_example(bundled, status):
    response = request(bundled, ERRORS[status], MODEL)
    assert response.status == status
    assert response.json == examples.responses()[str(status)]


def test_the_examples_are_of_the_schemas_that_they_stand_beside(bundled):
    described = bundled.request("GET", "/openapi.json").json
    shown = 0
    for methods in described["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    schema = {**content["schema"], "components": described["components"]}
                    for example in content.get("examples", {}).values():
                        Draft202012Validator(schema).validate(example["value"])
                        shown += 1
    assert shown > 20


def run(command: list[str], text: str, folder: Path) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=folder, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_work_as_they_are_pasted(bundled, tmp_path):
    messages = run(["bash", "-e"], examples.curl(bundled.address, False).replace("curl", "curl -sS"), tmp_path)
    decoder, found = json.JSONDecoder(), []
    while messages:
        answer, end = decoder.raw_decode(messages)
        found.append(answer)
        messages = messages[end:]
    one, several = found
    assert one["class"] == "7"
    assert [answer["name"] for answer in several["images"]] == ["seven.png", "seven.png"]
    assert (tmp_path / "seven.png").read_bytes() == examples.example_image()


@pytest.mark.child
def test_the_program_works_as_it_is_pasted(bundled, tmp_path):
    messages = run([sys.executable, "-"], examples.python(bundled.address, False), tmp_path)
    assert messages.startswith("7 (")
    assert messages.endswith("glimpses\n")


@pytest.mark.child
@pytest.mark.parametrize("model", ["digits-hard", "digits-soft"])
def test_the_program_for_triton_works_as_it_is_pasted(bundled, tmp_path, model):
    messages = run([sys.executable, "-W", "ignore", "-"], examples.triton(bundled.address, False, model), tmp_path)
    assert len(messages.strip(" []\n").split()) == 10


@pytest.mark.child
def test_the_key_goes_along_where_one_is_wanted(tmp_path, monkeypatch):
    from glimpse_serve.gateway.api_keys import make_key

    secret, entry = make_key("me")
    monkeypatch.setenv("GLIMPSE_KEY", secret)
    with running(Settings(models=toy_files(tmp_path), keys=entry)) as made:
        assert made.request("GET", "/v1/models").status == 401
        pasted = examples.curl(made.address, True).replace("curl", "curl -sS --fail-with-body")
        assert '"class"' in run(["bash", "-e"], pasted, tmp_path)
        assert "glimpses" in run([sys.executable, "-"], examples.python(made.address, True), tmp_path)
        program = examples.triton(made.address, True, "adaptive")
        assert "[" in run([sys.executable, "-W", "ignore", "-"], program, tmp_path)


DIGITS = ("digits-hard", "digits-soft", "seven", "mnist", "handwritten", "base64,iVBOR")
"""What the examples of the bundled models are known by."""


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_examples_of_the_bundled_models_are_shown_where_they_are_served(bundled, toys, path):
    shown = bundled.request("GET", path).body.decode()
    assert all(word in shown for word in ("digits-hard", "seven"))
    other = toys.request("GET", path).body.decode()
    assert not [word for word in DIGITS if word in other]
    assert "adaptive" in other


@pytest.mark.parametrize("name", ["digits-hard", "hawk"])
def test_another_model_under_the_name_of_a_bundled_one_is_none(tmp_path, name):
    models = (f"{name}={write_toy(tmp_path / 'x.onnx', ADAPTIVE)}", f"digits-soft={SOFT.path}")
    with running(Settings(models=models)) as made:
        assert not examples.are_bundled(made.service.context.registry)
        assert "seven" not in made.request("GET", "/docs").body.decode()


@pytest.mark.parametrize(("input_type", "channels"), [("uint8", 3), ("float32", 1), ("float32", 3)])
def test_the_request_that_is_made_from_a_card_is_answered(tmp_path, input_type, channels):
    step = f"step={write_toy(tmp_path / 'step.onnx', STEP)}"
    card = replace(ADAPTIVE, input_type=input_type, channels=channels)
    with running(Settings(models=(step, f"stork={write_toy(tmp_path / 'stork.onnx', card)}"))) as made:
        infer = made.request("GET", "/openapi.json").json["paths"]["/v2/models/{model}/infer"]["post"]
        sent = infer["requestBody"]["content"]["application/json"]["examples"]["request"]["value"]
        response = made.request("POST", "/v2/models/stork/infer", json.dumps(sent).encode())
        assert [output["name"] for output in response.json["outputs"]] == ["probabilities"]


def test_without_a_fitting_model_no_request_is_shown():
    assert set(examples.shown_for([])) == set(examples.GENERAL)


@pytest.mark.child
def test_the_commands_for_a_file_of_ones_own_work_as_they_are_pasted(toys, tmp_path):
    (tmp_path / "image.png").write_bytes(examples.example_image())
    pasted = examples.curl(toys.address, False, drawn=False).replace("curl", "curl -sS --fail-with-body")
    assert run(["bash", "-e"], pasted, tmp_path).count('"class"') > 2
    assert "glimpses" in run([sys.executable, "-"], examples.python(toys.address, False, drawn=False), tmp_path)
