"""The help of every subcommand: light, and written in one style; so are the mistakes that need nothing but names."""

import json
import re
import subprocess
import sys
from importlib import import_module

import pytest

from glimpse.cli import app
from glimpse.cli.parser import CommandParser
from glimpse.runtime.providers import PROVIDERS

NAMES = [entry.name for entry in app.SUBCOMMANDS]
FAULTS = {
    "the name of a module": re.compile(r"\bglimpse(_envs|_serve)?\.[a-z_]+\b(?!\.onnx)"),
    "doubled punctuation": re.compile(r"[;,:]\s*[;,:]|[;,:]\.(?!\w)|(?<!\.)\.\.(?!\.)|\.\s*;"),
    "an abbreviation in lower case": re.compile(r"\b[a-z][A-Z]{2,}"),
    "markup": re.compile(r"``|:\w+:`"),
    "a sentence that is open": re.compile(r";\s*$", re.MULTILINE),
}
HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "scipy", "sklearn", "matplotlib")
CHILD = """
import contextlib, io, json, sys
from glimpse.cli import app

found = {}
for args in json.loads(sys.argv[1]):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = app.main(args)
    heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(json.loads(sys.argv[2])))
    found[" ".join(args)] = [status, output.getvalue(), heavy]
print(json.dumps(found))
"""
MISTAKES = {
    "train --epochs 3": "there is no option --epochs; did you mean --trainer.max_epochs?",
    "train --trainer.max_epoch=3": "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?",
    "train --config digits-soft --model.scores dot": "there is no option --model.scores; did you mean --model.score?",
    "train --model SoftAttention": "did you mean SoftAttentionTraining?",
    "train --config digit": "did you mean digits?",
    "train --data.seed 1": "--data.seed can't be set: it follows from --seed",
    "train stray": "expected options, or a folder of images, got 'stray'",
    "play --brwser": "play knows no '--brwser'; did you mean --browser?",
    "export a.ckpt --outptu b": "export knows no '--outptu'; did you mean --output?",
    "serve --max-quue 2": "serve knows no '--max-quue'; did you mean --max-queue?",
}


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a subcommand."""
    assert app.main([name, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.child
def test_help_and_mistaken_names_import_nothing_heavy():
    mistakes = [args.split() for args in MISTAKES]
    commands = [*([name, "--help"] for name in NAMES), *mistakes]
    program = [sys.executable, "-c", CHILD, json.dumps(commands), json.dumps(HEAVY)]
    found = json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    for name in NAMES:
        status, text, heavy = found[f"{name} --help"]
        assert (status, heavy) == (0, []), name
        assert text.startswith("usage: glimpse")
    for args in mistakes:
        status, text, heavy = found[" ".join(args)]
        assert (status, heavy) == (2, []), args
        assert MISTAKES[" ".join(args)] in text


@pytest.mark.parametrize("name", NAMES)
def test_help_is_without_faults_of_form(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(name, capsys)
    assert [what for what, pattern in FAULTS.items() if pattern.search(re.sub(r" *\n {3,}", " ", text))] == []
    assert max(map(len, text.splitlines())) <= (120 if name == "train" else 80)


@pytest.mark.parametrize(
    "entry", [entry for entry in app.SUBCOMMANDS if entry.name != "train"], ids=lambda entry: entry.name
)
def test_every_option_is_described_in_one_style(entry):
    parser = CommandParser()
    import_module(entry.module).add_arguments(parser)
    for action in parser._actions:
        text = action.help or ""
        assert text, action.dest
        assert text[0].islower() or text[:2].isupper(), text
        assert text[-1] not in ".;,", text


def test_the_providers_are_those_that_there_are(capsys):
    text = " ".join(printed("serve", capsys).split())
    assert all(name in text for name in PROVIDERS)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("the name of a module", "one of glimpse.runtime.providers.PROVIDERS; cpu if left out"),
        ("doubled punctuation", "none if empty;; may be given"),
        ("an abbreviation in lower case", "pEM file of the certificate"),
        ("markup", "``digits`` (embedded)"),
        ("a sentence that is open", "empty for none;"),
    ],
)
def test_a_fault_is_found(fault, text):
    assert FAULTS[fault].search(text)
