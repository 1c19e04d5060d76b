import pickle

import pytest

from glimpse.data.datasets import DataError
from glimpse.errors import (
    Argument,
    ArgumentError,
    Clause,
    Sentence,
    Setting,
    in_python,
    nearest,
    similarity,
    suggestion,
)


def as_option(argument: Argument) -> str | None:
    """Write arguments as a command line does that has no option for ``download``."""
    if argument.name == "download":
        return None
    value = f" {argument.value}" if isinstance(argument, Setting) else ""
    return f"--data.{argument.name}{value}"


JITTER = ArgumentError("expected ", Argument("jitter"), " of at least 0, got -1; or leave ", Argument("canvas"), " out")
MISSING = DataError(
    "found none; give its folder with ", Argument("root"), Clause(", or download it with ", Setting("download", True))
)


def test_an_argument_is_written_by_its_name_in_python():
    assert str(JITTER) == "expected jitter of at least 0, got -1; or leave canvas out"
    assert in_python(Setting("what", "mlp")) == "what='mlp'"
    assert in_python(Setting("download", True)) == "download=True"
    assert JITTER.render() == str(JITTER)


def test_a_front_end_writes_arguments_as_its_options():
    assert JITTER.render(as_option) == "expected --data.jitter of at least 0, got -1; or leave --data.canvas out"
    assert ArgumentError("use ", Setting("what", "mlp")).render(as_option) == "use --data.what mlp"
    assert JITTER.render(lambda argument: f"--model.{argument.name}").startswith("expected --model.jitter of")


def test_the_first_argument_is_the_one_at_fault():
    assert JITTER.argument == "jitter"
    assert ArgumentError("so ", Sentence("is ", Argument("zoom")), Argument("size")).argument == "zoom"
    assert ArgumentError("expected at least 2 classes").argument is None


def test_a_clause_about_an_option_that_a_front_end_lacks_is_left_out():
    assert str(MISSING) == "found none; give its folder with root, or download it with download=True"
    assert MISSING.render(as_option) == "found none; give its folder with --data.root"


def test_an_argument_that_a_front_end_lacks_keeps_its_name_in_python():
    assert ArgumentError("lower ", Argument("download")).render(as_option) == "lower download"


def test_a_caller_with_fewer_arguments_leaves_clauses_out():
    fewer = MISSING.only("root")
    assert type(fewer) is DataError
    assert str(fewer) == "found none; give its folder with root"
    assert str(MISSING.only("root", "download")) == str(MISSING)


@pytest.mark.parametrize("name", ["{jitter}", "{", "}", "{0}", "{root!r}", "%s", "--data.root"])
def test_text_that_is_inserted_may_hold_anything(name):
    error = DataError(f"expected a folder at {name}, give one with ", Argument("root"), f"; got {name}")
    assert str(error) == f"expected a folder at {name}, give one with root; got {name}"
    assert error.render(as_option) == f"expected a folder at {name}, give one with --data.root; got {name}"
    assert str(DataError(name)) == name


def test_an_error_goes_to_another_process_whole():
    again = pickle.loads(pickle.dumps(MISSING))  # noqa: S301
    assert type(again) is DataError
    assert (str(again), again.render(as_option)) == (str(MISSING), MISSING.render(as_option))


def test_sentences_are_parts_of_sentences():
    inner = Sentence("there is no ", Argument("mixed"))
    assert str(Sentence(Argument("spread"), " would do nothing, since ", inner)) == (
        "spread would do nothing, since there is no mixed"
    )
    assert [argument.name for argument in Sentence(Argument("a"), inner).arguments()] == ["a", "mixed"]


def test_a_mistyped_name_has_a_nearest_one_or_none():
    assert nearest("evalute", ["train", "evaluate"]) == "evaluate"
    assert nearest("zzz", ["train", "evaluate"]) is None
    assert nearest("epochs", ["max_epochs", "min_epochs"]) == "max_epochs"
    assert nearest("epochs", ["min_epochs", "max_epochs"]) == "min_epochs"
    assert nearest("a", []) is None


def test_a_mistake_is_told_with_the_nearest_name_or_with_none():
    assert suggestion("tritn", ["triton", "kserve"]) == "; did you mean triton?"
    assert suggestion("zzz", ["triton", "kserve"]) == ""


def test_similarity_reaches_from_0_to_1():
    assert [similarity("abc", other) for other in ("abc", "xyz")] == [1, 0]
