from argparse import Namespace

import pytest

from glimpse.cli.train.messages import check_decided, explain_mistake, options_of, sentence_of, unwrapped
from glimpse.cli.usage import UsageError, spelling
from glimpse.errors import Argument, ArgumentError

KNOWN = ["model.num_glimpses", "model.hidden", "output"]


def explained(message: str, args: list[str] | None = None, files: dict[str, list[str]] | None = None) -> str:
    return explain_mistake(message, args or [], files or {}, lambda: KNOWN)


def test_an_unknown_option_is_named_in_full():
    message = "Option 'num_glimpse' is not accepted"
    assert explained(message, ["--model.num_glimpse=3"]).startswith(
        "there is no option --model.num_glimpse; did you mean"
    )
    assert explained(message, [], {"own.yaml": ["model.num_glimpse"]}).startswith(
        "own.yaml: there is no option model.num_gl"
    )


def test_an_option_that_resembles_none_leads_to_the_help():
    assert explained("unrecognized arguments: --zzz=1") == "there is no option --zzz; see --help-all for every option"


def test_choices_are_listed():
    message = "Parser key \"a\":\n  - Expected a typing.Literal['x', 'y']\n  Given value: z"
    assert explained(message) == "--a: expected x, y, got 'z'"


def test_an_unforeseen_message_is_kept_short():
    assert explained("some\n  thing") == "some thing"
    assert len(explained("word " * 1000)) <= 200


def test_options_that_something_else_decides_are_refused():
    check_decided(["--seed", "3"], {"own.yaml": ["seed"]})
    with pytest.raises(UsageError, match=r"--model.seed can't be set: it follows from --seed; leave it out"):
        check_decided(["--model.init_args.seed=3"], {})
    with pytest.raises(UsageError, match=r"own.yaml: data.seed can't be set"):
        check_decided([], {"own.yaml": ["data.seed"]})


def wrapped(error: Exception) -> ValueError:
    """What jsonargparse makes of an error that a class raises."""
    wrapper = ValueError(
        f"Does not validate against any of the Union subtypes\nErrors:\n  - {error}\n  - Expected a None"
    )
    wrapper.__cause__ = error
    return wrapper


def test_the_error_of_a_class_is_taken_out_of_those_of_the_parser():
    own = ArgumentError("expected ", Argument("hidden"), " of at least 1")
    assert unwrapped(wrapped(wrapped(own))) is own
    assert unwrapped(own) is own
    caused = ValueError("expected 2")
    caused.__cause__ = KeyError("reason")
    assert unwrapped(wrapped(caused)) is caused


def test_its_arguments_are_written_as_options():
    options = spelling({"hidden": "--model.hidden"})
    own = ArgumentError("expected ", Argument("hidden"), " of at least 1")
    assert sentence_of(wrapped(own), options) == "expected --model.hidden of at least 1"
    assert sentence_of(wrapped(ValueError("expected\n  2, got 1")), options) == "expected 2, got 1"
    assert len(sentence_of(ValueError("word " * 1000), options)) <= 400


def test_the_options_are_those_of_the_classes_that_are_made():
    config = {
        "data": Namespace(class_path="a.Data", init_args=Namespace(root=None, seed=0)),
        "model": Namespace(class_path="a.Model", init_args=Namespace(hidden=8, seed=0, classes=[], root=1)),
        "trainer": Namespace(max_epochs=1),
        "seed": 0,
        "ckpt_path": None,
    }
    assert options_of(config) == {
        "root": "--data.root",
        "hidden": "--model.hidden",
        "max_epochs": "--trainer.max_epochs",
        "seed": "--seed",
        "ckpt_path": "--ckpt_path",
    }
