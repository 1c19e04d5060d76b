import pytest

from benchmarks.runtime import rounds
from benchmarks.runtime.reference import MISSING, NAME


def one(times: float, reference: float) -> dict[str, object]:
    def side(name: str, ratio: float) -> dict[str, object]:
        return {"side": name, "times_reference": ratio, "cpu_microseconds": reference / ratio}

    return {"data": "mnist", "sides": [side(NAME, 1.0), side("ours", times)]}


def test_a_side_has_the_median_and_the_range_of_its_processes():
    reference, ours = rounds.gathered([one(8.0, 1600.0), one(12.0, 1800.0), one(9.0, 900.0)])
    assert reference["times_reference"] == {"median": 1.0, "least": 1.0, "most": 1.0}
    assert reference["cpu_microseconds"] == {"median": 1600.0, "least": 900.0, "most": 1800.0}
    assert ours["times_reference"] == {"median": 9.0, "least": 8.0, "most": 12.0}
    assert ours["cpu_microseconds"] == {"median": 150.0, "least": 100.0, "most": 200.0}


def test_without_a_checkout_it_says_so(capsys):
    assert rounds.main([]) == 0
    assert capsys.readouterr().out.strip() == MISSING


def test_each_process_is_asked_for_one_round(monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(command[1:])
        return type("Run", (), {"stdout": b'{"sides": []}'})

    monkeypatch.setattr("benchmarks.runtime.rounds.subprocess.run", run)
    assert rounds.in_processes(3, ["--reference", "there"]) == [{"sides": []}] * 3
    assert asked == [["-m", "benchmarks.runtime.rounds", "--reference", "there", "--here"]] * 3


def test_a_process_that_fails_ends_it(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="expected a checkout"):
        rounds.one_round(tmp_path, None, quick=True)
