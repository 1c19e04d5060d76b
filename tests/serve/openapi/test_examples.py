"""The examples of the description are what the service answers.

``GLIMPSE_RECORD=1 pytest tests/serve/openapi/test_examples.py`` asks the shipped models anew and writes the answers
down.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from glimpse_serve.openapi import examples
from glimpse_serve.openapi.examples import MODEL, REFUSED, SAMPLES, Sample
from glimpse_serve.settings import Settings
from tests.support.service import Got, Running, running, toy_files

FILE = Path(examples.__file__).with_name("examples.json")
RECORD = bool(os.environ.get("GLIMPSE_RECORD"))
NAMED_BY_MODELS = ("probabilities", "recipe", "versions")
"""Objects whose entries are each model's own."""


@pytest.fixture(scope="module")
def shipped():
    with running(Settings()) as made:
        if RECORD:
            said = {name: ask(made, sample, MODEL).json for name, sample in SAMPLES.items()}
            said |= {str(status): ask(made, sample, MODEL).json for status, sample in REFUSED.items()}
            FILE.write_text(json.dumps(said, indent=1) + "\n")
            examples.answers.cache_clear()
        yield made


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def ask(service: Running, sample: Sample, model: str) -> Got:
    kind = {"Content_Type": sample.media_type} if sample.media_type else {}
    return service.ask(sample.method, sample.path.format(model=model), sample.body or None, **kind)


def form_of(value: Any, name: str = "") -> Any:
    """A value with types in place of texts and numbers, and one entry for all that a list holds."""
    if isinstance(value, dict):
        return "object" if name in NAMED_BY_MODELS else {each: form_of(value[each], each) for each in sorted(value)}
    if isinstance(value, list):
        forms = [form_of(each) for each in value]
        return [form for place, form in enumerate(forms) if form not in forms[:place]]
    return "number" if isinstance(value, float | int) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_model_answers_as_its_example_says(shipped, name):
    got = ask(shipped, SAMPLES[name], MODEL)
    assert got.status == 200
    assert form_of(got.json) == form_of(examples.answers()[name])


@pytest.mark.parametrize("name", ["classified", "several", "inferred"])
def test_it_comes_to_the_same_belief(shipped, name):
    def beliefs(said: Any) -> Any:
        if name == "inferred":
            return said["outputs"][0]["shape"]
        return [image.get("class") for image in said.get("images", [said])]

    assert beliefs(ask(shipped, SAMPLES[name], MODEL).json) == beliefs(examples.answers()[name])


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("model", "models")])
def test_another_model_answers_in_the_same_form(toys, name):
    got = ask(toys, SAMPLES[name], "adaptive")
    assert form_of(got.json) == form_of(examples.answers()[name])


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_is_the_one_of_the_example(shipped, status):
    got = ask(shipped, REFUSED[status], MODEL)
    assert got.status == status
    assert got.json == examples.answers()[str(status)]


def test_the_examples_are_of_the_schemas_that_they_stand_beside(shipped):
    described = shipped.ask("GET", "/openapi.json").json
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


def test_the_commands_work_as_they_are_pasted(shipped, tmp_path):
    said = run(["bash", "-e"], examples.curl(shipped.address, False).replace("curl", "curl -sS"), tmp_path)
    decoder, found = json.JSONDecoder(), []
    while said:
        answer, end = decoder.raw_decode(said)
        found.append(answer)
        said = said[end:]
    one, several = found
    assert one["class"] == "7"
    assert [answer["name"] for answer in several["images"]] == ["seven.png", "seven.png"]
    assert (tmp_path / "seven.png").read_bytes() == examples.image()


@pytest.mark.child
def test_the_program_works_as_it_is_pasted(shipped, tmp_path):
    said = run([sys.executable, "-"], examples.python(shipped.address, False), tmp_path)
    assert said.startswith("7 (")
    assert said.endswith("glimpses\n")


@pytest.mark.child
@pytest.mark.parametrize("model", ["digits-hard", "digits-soft"])
def test_the_program_for_triton_works_as_it_is_pasted(shipped, tmp_path, model):
    said = run([sys.executable, "-W", "ignore", "-"], examples.triton(shipped.address, False, model), tmp_path)
    assert len(said.strip(" []\n").split()) == 10


@pytest.mark.child
def test_the_key_goes_along_where_one_is_wanted(tmp_path, monkeypatch):
    from glimpse_serve.gateway.api_keys import make_key

    secret, entry = make_key("me")
    monkeypatch.setenv("GLIMPSE_KEY", secret)
    with running(Settings(models=toy_files(tmp_path), keys=entry)) as made:
        assert made.ask("GET", "/v1/models").status == 401
        pasted = examples.curl(made.address, True).replace("curl", "curl -sS --fail-with-body")
        assert '"class"' in run(["bash", "-e"], pasted, tmp_path)
        assert "glimpses" in run([sys.executable, "-"], examples.python(made.address, True), tmp_path)
        program = examples.triton(made.address, True, "adaptive")
        assert "[" in run([sys.executable, "-W", "ignore", "-"], program, tmp_path)
