"""Loggers by name: each in the run's folder, and a sentence where a package is missing."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from glimpse.cli.train.options import loggers
from glimpse.cli.train.options.loggers import LOGGERS, choose_loggers, make_logger
from glimpse.cli.usage import UsageError


@pytest.mark.parametrize(("name", "kind"), [("csv", CSVLogger), ("tensorboard", TensorBoardLogger)])
def test_a_logger_writes_into_the_runs_folder_and_nothing_before_the_training(name, kind, tmp_path) -> None:
    output = tmp_path / "run"
    logger = make_logger(name, output)
    assert type(logger) is kind
    assert Path(str(logger.log_dir)).is_relative_to(output)
    assert not output.exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_a_missing_package_is_named_with_its_installation(name, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    sentence = rf"--logger {name}: expected the package {name}, .*'pip install {name}', or choose another logger"
    with pytest.raises(UsageError, match=sentence):
        make_logger(name, tmp_path)


@pytest.fixture
def given(monkeypatch, tmp_path) -> dict[str, str]:
    """What a logger is made with, in place of those whose packages are not installed."""
    found: dict[str, str] = {}

    def make(experiment: str = "", run: str = "", **options: str) -> CSVLogger:
        found.update(options, experiment=experiment, run=run)
        return CSVLogger(tmp_path)

    package = ModuleType("mlflow")
    monkeypatch.setattr(package, "get_tracking_uri", lambda: "sqlite:///mine.db", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setattr(loggers, "find_spec", lambda package: True)
    monkeypatch.setattr(loggers, "MLFlowLogger", make)
    monkeypatch.setattr(loggers, "WandbLogger", make)
    return found


def test_wandb_gets_the_runs_folder_and_name(given, tmp_path) -> None:
    make_logger("wandb", tmp_path / "mine")
    assert (given["name"], given["project"], given["save_dir"]) == ("mine", "glimpse", str(tmp_path / "mine"))


def test_mlflow_writes_where_mlflow_would(given, tmp_path) -> None:
    make_logger("mlflow", tmp_path / "mine")
    assert (given["experiment"], given["run"], given["tracking_uri"]) == ("glimpse", "mine", "sqlite:///mine.db")


def test_loggers_are_named_or_made_by_the_trainers_own_options(tmp_path) -> None:
    own = CSVLogger(tmp_path)
    assert choose_loggers(own, [None, None], tmp_path) is own
    assert choose_loggers(None, [None, None], tmp_path) is False
    kinds = [type(each) for each in choose_loggers(False, ["tensorboard", "csv", "tensorboard"], tmp_path)]
    assert kinds == [CSVLogger, TensorBoardLogger]
    with pytest.raises(UsageError, match=r"expected --logger or --trainer\.logger, got both; leave one of them out"):
        choose_loggers(own, ["csv"], tmp_path)


def test_an_unknown_logger_is_refused_with_those_there_are(tmp_path) -> None:
    with pytest.raises(UsageError, match=f"--logger: expected one of {', '.join(LOGGERS)}; got 'neptune'"):
        make_logger("neptune", tmp_path)
