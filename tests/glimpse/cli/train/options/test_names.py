import pytest

from glimpse.cli.train.options.names import check_known, complete_flags, families_by_name, known_options, take
from glimpse.cli.usage import UsageError
from glimpse.training.families import FAMILIES


def test_known_options_leave_out_what_nobody_sets():
    known = known_options()
    assert {"model.num_glimpses", "data.root", "trainer.precision", "seed", "ckpt_path"} <= set(known)
    assert not {"model.classes", "data.seed"} & set(known)


def test_the_families_are_those_that_are_registered():
    expected = {family.__name__: family.__module__ for family in FAMILIES.values()}
    assert families_by_name() == expected
    assert list(families_by_name()) == list(expected)


@pytest.mark.parametrize(
    "args",
    [
        ["--seed", "-1", "-c", "digits", "--print_config=skip_null", "--ckpt_path", "a"],
        ["--model", "HardAttentionTraining", "--model.init_args.gate=true", "--model.class_path=x", "--model.help"],
        ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience", "3", "--trainer.logger.init_args.x=1"],
        ["--data.dataset", "digits", "--trainer.precision", "auto", "--"],
    ],
)
def test_what_the_parser_knows_is_let_through(args):
    check_known(args, {"own.yaml": ["seed", "trainer.max_epochs", "model", "model.policy", "data.root"]})


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("--epochs", "--trainer.max_epochs"),
        ("--epoch", "--trainer.max_epochs"),
        ("--steps", "--trainer.max_steps"),
        ("--trainer.epochs", "--trainer.max_epochs"),
        ("--data.epochs", "--trainer.max_epochs"),
        ("--lr", "--model.learning_rate"),
        ("--learning-rate", "--model.learning_rate"),
        ("--model.wd", "--model.weight_decay"),
        ("--batch-size", "--data.batch_size"),
        ("--batchsize", "--data.batch_size"),
        ("--dataset", "--data.dataset"),
        ("--glimpses", "--model.num_glimpses"),
        ("--device", "--trainer.devices"),
        ("--model.hiden", "--model.hidden"),
        ("--outptu", "--output"),
    ],
)
def test_a_wrong_name_leads_to_the_one_that_was_meant(wrong, meant):
    with pytest.raises(UsageError, match=rf"^there is no option {wrong}; did you mean {meant}\?$"):
        check_known([f"{wrong}=3"], {})
    name, right = wrong.removeprefix("--"), meant.removeprefix("--")
    with pytest.raises(UsageError, match=rf"^own.yaml: there is no option {name}; did you mean {right}\?$"):
        check_known([], {"own.yaml": [name]})


@pytest.mark.parametrize("wrong", ["--workers", "--zzz", "--gpus", "--q.r.s"])
def test_a_name_that_resembles_none_leads_to_the_help(wrong):
    with pytest.raises(UsageError, match=rf"^there is no option {wrong}; see --help-all for every option$"):
        check_known([wrong, "3"], {})


def test_a_users_own_class_may_have_any_option():
    check_known(["--model.extra", "4"], {"own.yaml": ["model.more"]}, {"data", "trainer"})
    with pytest.raises(UsageError, match=r"there is no option --data.extra"):
        check_known(["--data.extra", "4"], {}, {"data", "trainer"})


def test_a_boolean_option_that_stands_alone_is_a_flag():
    args = ["--data.download", "--seed", "-1", "--model.init_args.gate", "-c", "digits", "--overwrite"]
    completed = [
        "--data.download=true",
        "--seed",
        "-1",
        "--model.init_args.gate=true",
        "-c",
        "digits",
        "--overwrite=true",
    ]
    assert complete_flags(args) == completed
    for given in (completed, ["--overwrite", "false", "--data.download=no"], ["--model.hidden", "--print_config"]):
        assert complete_flags(given) == given


def test_take_leaves_the_other_options():
    options = ["--seed", "1", "-c", "a", "--config=b"]
    assert take(options, "--config", "-c") == ["a", "b"]
    assert options == ["--seed", "1"]


def test_take_refuses_an_option_without_its_value():
    with pytest.raises(UsageError, match="--config: expected a value after it"):
        take(["--config", "--seed", "1"], "--config")
