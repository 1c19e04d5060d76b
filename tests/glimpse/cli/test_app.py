import inspect
import io
import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from glimpse.cli import app
from glimpse.cli.usage import RunError
from glimpse.contract.card import ContractError
from glimpse.data.datasets import DataError
from glimpse.errors import Argument, Clause, Setting
from glimpse.runtime.limits import check_limits

SCRIPT = Path(__file__).parents[3] / "train.py"


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command line is refused with."""
    assert app.main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("glimpse: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ["evalute", "a.ckpt"],
            "expected one of train, evaluate, export, inspect, classify, serve, explain, compare, play, demo; got",
        ),
        (["evaluate", "a.ckpt", "--jsn"], "evaluate knows no '--jsn'; did you mean --json?"),
        (["evaluate", "a.ckpt", "--js"], "evaluate knows no '--js'; did you mean --json?"),
        (["evaluate", "a.ckpt", "--part", "tset"], "expected one of test, validation; got 'tset'; did you mean test?"),
        (["evaluate"], "the following arguments are required: CHECKPOINT"),
        (["export", "a.ckpt", "--outptu", "b"], "export knows no '--outptu'; did you mean --output?"),
        (["export", "a.ckpt", "--graph", "adaptve"], "expected one of adaptive, episode, step; got 'adaptve'; did you"),
        (["export", "a.ckpt", "--type", "int4"], "expected one of float32, float16, int8; got 'int4'"),
        (["export", "a.ckpt", "--input", "int8"], "expected one of uint8, float32; got 'int8'"),
        (["export", "a.ckpt", "--target", "tpu"], "expected one of cpu, gpu; got 'tpu'"),
        (["export", "no.ckpt", "--graph", "step"], "expected a checkpoint at no.ckpt, found nothing"),
        (["play", "--brwser"], "play knows no '--brwser'; did you mean --browser?"),
        (["demo", "--otput", "b"], "demo knows no '--otput'; did you mean --output?"),
        (["compare"], "the following arguments are required: MODEL"),
        (["compare", "digits", "--imgaes", "2"], "compare knows no '--imgaes'; did you mean --images?"),
        (
            ["compare", "a.ckpt", "b.ckpt", "--overwrite=yes"],
            "--overwrite: expected no value, got 'yes'; leave the value out",
        ),
        (["compare", "a.ckpt", "b.ckpt"], "expected a checkpoint at a.ckpt, found nothing"),
        (["classify", "model.onnx"], "the following arguments are required: IMAGE"),
        (["classify", "no.onnx", "a.png"], "can't load the model 'no.onnx': no such file"),
        (["evaluate", "no.ckpt"], "expected a checkpoint at no.ckpt, found nothing"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(args, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, *args)


def test_help_lists_the_subcommands(capsys):
    assert app.main(["--help"]) == 0
    captured = capsys.readouterr().out
    assert all(entry.name in captured and entry.help.split(",")[0] in captured for entry in app.SUBCOMMANDS)


def raising(error: BaseException):
    def run(args):
        raise error

    return run


def test_an_error_of_ours_is_the_users_and_any_other_a_fault(monkeypatch, capsys):
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(ContractError("expected a card, got none")))
    assert refused(capsys, "demo") == "glimpse: expected a card, got none\n"
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(ValueError("a fault")))
    with pytest.raises(ValueError, match="a fault"):
        app.main(["demo"])


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_an_error_of_ours_names_the_options_that_the_command_has(command, monkeypatch, capsys):
    missing = DataError("give its folder with ", Argument("root"), Clause(", or ", Setting("download", True)))
    monkeypatch.setattr(f"glimpse.cli.{command}.run", raising(missing))
    assert refused(capsys, command, "a.ckpt") == "glimpse: give its folder with --root\n"


def test_what_a_file_is_called_controls_no_terminal(capsys, tmp_path):
    told = refused(capsys, "inspect", str(tmp_path / "\x1b]0;owned\x07\u202e.onnx"))
    assert told.removesuffix("\n").isprintable()
    assert r"\x1b]0;owned\x07\u202e.onnx" in told


def test_bytes_that_are_no_text_are_printed_as_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(app, "_run", lambda *_: print("caf\udce9") or 0)
    assert app.main([]) == 0
    assert stream.buffer.getvalue() == b"caf\\udce9\n"


def test_a_limit_is_named_as_the_command_names_it(monkeypatch, capsys):
    monkeypatch.setattr("glimpse.cli.classify.command.run", lambda _: check_limits(5, 9, None, None))
    message = refused(capsys, "classify", "a.onnx", "b.png")
    assert message.startswith(
        "glimpse: expected --max-glimpses from 1 to 5, the number that the model was trained to take"
    )


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("demo", "glimpse.cli.demo.command", "train"),
        ("classify", "glimpse.cli.classify.command", "serve"),
        ("play", "glimpse_envs.play.command", "envs"),
    ],
)
def test_a_missing_extra_is_named(command, module, extra, monkeypatch, capsys):
    monkeypatch.setattr(f"{module}.run", raising(ModuleNotFoundError("no", name="torch.nn")))
    captured = refused(capsys, command, *(["a.onnx", "b.png"] if command == "classify" else []))
    assert f"{command} needs torch, which is not installed; pip install 'glimpse-attention[{extra}]'" in captured


def test_a_module_of_ours_that_is_missing_is_a_fault(monkeypatch):
    monkeypatch.setattr(
        "glimpse.cli.demo.command.run", raising(ModuleNotFoundError("no", name="glimpse.cli.demo.command"))
    )
    with pytest.raises(ModuleNotFoundError):
        app.main(["demo"])


def test_a_file_that_cannot_be_written_is_named(monkeypatch, capsys):
    monkeypatch.setattr(
        "glimpse.cli.demo.command.run", raising(PermissionError(13, "Permission denied", "out/model.onnx"))
    )
    assert "can't use 'out/model.onnx': Permission denied" in refused(capsys, "demo")


def test_a_failure_that_names_no_file_is_told_and_a_fault_is_not(monkeypatch, capsys):
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(OSError(28, "No space left on device")))
    assert refused(capsys, "demo") == (
        "glimpse: a file or the output could not be read or written: No space left on device; put that right and run "
        "it again\n"
    )
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(OSError("a fault")))
    with pytest.raises(OSError, match="a fault"):
        app.main(["demo"])


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
FILL = """
import sys
from glimpse import cli
from glimpse.cli.demo import command

def fill(args):
    print("once, to the output")
    if sys.argv[1] == "file":
        with open("/dev/full", "w") as stream:
            stream.write("whatever")
    return 0

command.run = fill
sys.exit(cli.main(["demo"]))
"""


@pytest.mark.child
@FULL
@pytest.mark.parametrize(("what", "out"), [("file", None), ("output", "/dev/full"), ("file", "/dev/full")])
def test_a_full_disk_is_one_sentence(what, out, tmp_path):
    out = Path(out) if out else tmp_path / "out"
    with out.open("w") as stream:
        command = [sys.executable, "-c", FILL, what]
        run = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("glimpse: a file or the output could not be read or written: No space left on device;")
    assert run.stderr.count("\n") == 1
    if out.parent == tmp_path:
        assert out.read_text() == "once, to the output\n"


def test_an_interrupt_ends_with_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(KeyboardInterrupt()))
    assert app.main(["demo"]) == 130
    assert capsys.readouterr().err == "glimpse: interrupted\n"


def test_work_that_failed_is_no_mistake_of_the_user(monkeypatch, capsys):
    monkeypatch.setattr("glimpse.cli.demo.command.run", raising(RunError("it went wrong; do this")))
    assert app.main(["demo"]) == 1
    assert capsys.readouterr().err == "glimpse: it went wrong; do this\n"


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    app.main(["--version"])
    assert (os.environ["KMP_BLOCKTIME"], os.environ["OMP_WAIT_POLICY"]) == ("0", "active")


@pytest.mark.child
def test_a_reader_that_goes_away_is_no_traceback():
    program = "import sys, time; time.sleep(0.5); from glimpse import cli; sys.exit(cli.main(['--help']))"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        captured = process.stderr.read()
    assert captured == b""


@pytest.mark.child
def test_the_module_starts_the_command():
    run = subprocess.run([sys.executable, "-m", "glimpse", "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout.split()[0]) == (0, "", "glimpse")


def test_the_script_trains(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: python train.py DIR")


@pytest.mark.parametrize("entry", app.SUBCOMMANDS, ids=lambda entry: entry.name)
def test_every_subcommand_has_the_two_functions(entry):
    module = import_module(entry.module)
    assert inspect.signature(module.add_arguments).parameters.keys() == {"parser"}
    assert inspect.signature(module.run).parameters.keys() == {"args"}


def test_a_subcommand_gets_the_whole_command_line_and_its_program():
    chosen = app.parse(["evaluate", "a.ckpt", "--json"])
    assert (chosen.command_line, chosen.program) == (["evaluate", "a.ckpt", "--json"], "glimpse evaluate")
    assert app.parse(["train", "fit"], "python train.py").program == "python train.py"


@pytest.mark.child
def test_the_help_imports_no_subcommand():
    program = (
        "import sys; from glimpse import cli; cli.main(['--help']);"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('glimpse', 'numpy', 'torch', 'PIL')))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = [
        "glimpse",
        "glimpse.cli",
        "glimpse.cli.app",
        "glimpse.cli.interruption",
        "glimpse.cli.parser",
        "glimpse.cli.threads",
        "glimpse.cli.usage",
        "glimpse.errors",
    ]
    assert run.stdout.splitlines()[-1] == str(modules)
