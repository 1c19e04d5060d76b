import argparse
from importlib import import_module
from pathlib import Path

import pytest

from glimpse.cli.app import SUBCOMMANDS
from glimpse.cli.parser import (
    CommandParser,
    add_checkpoint,
    add_json,
    add_output_folder,
    add_root,
    options_by_argument,
    parse_location,
)
from glimpse.cli.usage import UsageError


@pytest.fixture
def parser() -> CommandParser:
    """A parser with the arguments that several subcommands share, and a choice."""
    parser = CommandParser(prog="glimpse evaluate")
    add_checkpoint(parser)
    add_root(parser, "that of the training")
    add_output_folder(parser, "maps")
    add_json(parser)
    parser.add_argument("--part", choices=("test", "validation"))
    return parser


def test_the_shared_arguments_have_their_types_and_defaults(parser):
    chosen = parser.parse_args(["a.ckpt"])
    assert (chosen.checkpoint, chosen.root, chosen.output, chosen.json) == (Path("a.ckpt"), None, Path("maps"), False)
    chosen = parser.parse_args(["a.ckpt", "--root", "data", "--output", "out", "--json"])
    assert (chosen.root, chosen.output, chosen.json) == ("data", Path("out"), True)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["a.ckpt", "--part", "tset"], "expected one of test, validation; got 'tset'; did you mean test?"),
        (["a.ckpt", "--json=yes"], "--json: expected no value, got 'yes'; leave the value out"),
        (["a.ckpt", "--root"], "argument --root: expected one argument; see --help"),
        (["a.ckpt", "--js"], "unrecognized arguments: --js; see --help"),
        ([], "the following arguments are required: CHECKPOINT; see --help"),
    ],
)
def test_an_error_is_a_usage_error(parser, args, sentence):
    with pytest.raises(UsageError) as error:
        parser.parse_args(args)
    assert str(error.value) == sentence


def test_options_are_listed(parser):
    assert parser.options() == ["-h", "--help", "--root", "--output", "--json", "--part"]


def test_a_parser_is_filled_when_it_is_first_used():
    filled: list[str] = []

    def fill(parser: CommandParser) -> None:
        filled.append(parser.prog)
        add_json(parser)

    parser = CommandParser(prog="glimpse")
    subparsers = parser.add_subparsers(dest="command")
    for name in ("evaluate", "inspect"):
        subparsers.add_parser(name, fill=fill)
    assert filled == []
    for _ in range(2):
        assert parser.parse_args(["inspect", "--json"]) == argparse.Namespace(command="inspect", json=True)
    assert filled == ["glimpse inspect"]


def test_arguments_of_another_parser_are_set_aside(parser):
    def split(args):
        others = [arg for arg in args if arg.startswith("--model.")]
        return [arg for arg in args if arg not in others], others

    parser.set_aside(split, "training")
    chosen = parser.parse_args(["--model.hidden=8", "a.ckpt", "--json"])
    assert (chosen.training, chosen.checkpoint, chosen.json) == (["--model.hidden=8"], Path("a.ckpt"), True)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("compare", {"root": "--root"}),
        ("evaluate", {"root": "--root"}),
        (
            "export",
            {
                "root": "--root",
                "output": "--output",
                "graph": "--graph",
                "precision": "--type",
                "weights": "--weights",
                "input_type": "--input",
                "target": "--target",
                "storage_uri": "--storage-uri",
            },
        ),
        ("classify", {"max_glimpses": "--max-glimpses", "confidence": "--confidence", "threads": "--threads"}),
    ],
)
def test_options_go_by_the_names_of_the_librarys_arguments(command, expected):
    module = next(entry.module for entry in SUBCOMMANDS if entry.name == command)
    found = options_by_argument(import_module(module).add_arguments)
    assert expected.items() <= found.items()
    assert "help" not in found


@pytest.mark.parametrize(("text", "location"), [("0,0", (0, 0)), ("-0.5,1", (-0.5, 1)), ("-.5,-1e-1", (-0.5, -0.1))])
def test_a_location_may_begin_with_a_minus_sign(parser, text, location):
    parser.add_argument("--first-location", type=parse_location)
    assert parser.parse_args(["a.ckpt", "--first-location", text]).first_location == location


@pytest.mark.parametrize("text", ["", "0", "0,0,0", "centre", "1.01,0", "0,-2", "nan,0", "0,inf"])
def test_what_is_no_location_is_told(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected X,Y, both in \[-1, 1\], got"):
        parse_location(text)
