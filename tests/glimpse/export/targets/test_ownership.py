import pytest

from glimpse.contract.card import ContractError
from glimpse.export.targets.ownership import DeploymentError, check_noted, check_ours, digest_of, marked, seal_of


def test_what_was_written_may_be_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_text(marked('name: "Ä"\n'), encoding="utf-8")
    check_ours(path)
    assert path.read_text(encoding="utf-8").startswith("# Written by Glimpse. SHA-256 of what follows: ")


@pytest.mark.parametrize(
    "change", [lambda text: text + "\n", lambda text: text.replace("data: a", "data: b"), lambda text: text[:-1]]
)
def test_what_was_edited_may_not(change, tmp_path):
    path = tmp_path / "file"
    path.write_text(change(marked("data: a\n")))
    with pytest.raises(
        DeploymentError, match=r"file' was edited since Glimpse wrote it, and is left alone; move it away"
    ):
        check_ours(path)


@pytest.mark.parametrize(
    "content", [b"", b"name: a\n", b"\xff\xfe\x00", b"\n# Written by Glimpse. SHA-256 of what follows: \n"]
)
def test_what_somebody_else_wrote_may_not(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(
        DeploymentError, match=r"file' was not written by Glimpse, and is left alone; choose another name"
    ):
        check_ours(path)


def test_what_can_not_be_read_may_not(tmp_path):
    with pytest.raises(DeploymentError, match=r"it can't be read \(Is a directory\); choose another name"):
        check_ours(tmp_path)


def test_a_model_that_can_not_be_read_or_is_not_sealed_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"can't read the model .*none\.onnx' \(No such file or directory\)"):
        seal_of(tmp_path / "none.onnx")
    (tmp_path / "plain.onnx").write_bytes(b"no seal")
    with pytest.raises(ContractError, match="expected a file with a seal"):
        seal_of(tmp_path / "plain.onnx")


def test_a_file_without_a_mark_is_known_by_what_was_noted_of_it(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cat\n")
    check_noted(path, digest_of(b"cat\n"))
    with pytest.raises(DeploymentError, match=r"labels\.txt' was edited since Glimpse wrote it"):
        check_noted(path, digest_of(b"dog\n"))
    with pytest.raises(DeploymentError, match=r"labels\.txt' was not written by Glimpse"):
        check_noted(path, "")
    with pytest.raises(DeploymentError, match=r"it can't be read \(Is a directory\); choose another name"):
        check_noted(tmp_path, digest_of(b""))
