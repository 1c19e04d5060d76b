import pytest

from glimpse.cli.train.messages import check_decided, explain_mistake, root_sentence
from glimpse.cli.usage import UsageError

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


def test_the_sentence_is_found_in_what_a_parser_wrapped():
    wrapped = "Does not validate against any of the Union subtypes\nErrors:\n  - expected 2, got 1\n  - Expected a None"
    assert root_sentence(ValueError(wrapped)) == "expected 2, got 1"
    assert root_sentence(ValueError("expected 2")) == "expected 2"
