from pathlib import Path

import pytest

from glimpse.cli.train.run.resuming import check_same_options, find_run
from glimpse.cli.usage import UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/digits", "elsewhere/mine", "runs/empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/digits", "elsewhere/mine"):
        (tmp_path / name / "config.yaml").touch()
    return tmp_path


def test_a_run_is_found_by_its_folder_or_by_its_name():
    assert find_run("runs/digits") == find_run("digits") == Path("runs/digits")
    assert find_run("elsewhere/mine") == Path("elsewhere/mine")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digit", r"found neither; did you mean digits\?"),
        ("mine/nowhere", r"expected the folder of a run, or its name in runs/, found neither"),
        ("empty", r"expected a run that has begun to train, found no config.yaml in its folder"),
        ("runs/digits/config.yaml", r"expected the folder of a run, got a file; --ckpt_path takes a checkpoint"),
    ],
)
def test_what_is_no_run_is_told(name, sentence):
    with pytest.raises(UsageError, match=sentence):
        find_run(name)


def test_a_run_goes_on_with_the_same_options_though_its_data_may_have_moved():
    checkpoint = {"hyper_parameters": {"hidden": 8}, "datamodule_hyper_parameters": {"root": "a", "passes": 2}}
    check_same_options({"hidden": 8, "new": 1}, {"root": "b", "passes": 2}, checkpoint, "last.ckpt")
    with pytest.raises(UsageError, match=r"last.ckpt: .* --model.hidden was 8, is 9; --data.passes was 2, is 3; give"):
        check_same_options({"hidden": 9}, {"root": "a", "passes": 3}, checkpoint, "last.ckpt")
