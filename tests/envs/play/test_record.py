import json
from dataclasses import replace
from pathlib import Path

import pytest

from glimpse_envs.play.record import (
    AlreadyRecordedError,
    GameRecord,
    GameSettings,
    ImageRecord,
    ModelRecord,
    RecordError,
    score_players,
    score_table,
    standard_error_note,
)

SETTINGS = GameSettings("Glimpse/Digits-v0", {"split": "test", "num_glimpses": 4}, 0, ("a", "b", "c"), 20, None)
ENTRY = ImageRecord(5, 1, 1, True, 1.0, 2, ((0.0, 0.0), (0.5, -0.25)), (0.0, 1.5), 2.25, None)
RIVAL = ModelRecord((0, 2, 1), (0.4, 0.5, 0.9), ((0.0, 0.0), (0.1, 0.1), (0.2, 0.2)))


def test_what_was_kept_is_read_again(tmp_path):
    path = tmp_path / "played.json"
    settings = replace(SETTINGS, model={"file": "m.onnx", "sha256": "ab", "num_glimpses": 3})
    record = GameRecord(path, settings)
    assert not path.exists()
    entries = [replace(ENTRY, model=RIVAL), replace(ENTRY, image=6, answer=2, correct=False, model=RIVAL)]
    for entry in entries:
        record.add(entry)
    assert GameRecord(path, settings).entries == entries
    assert [found.name for found in tmp_path.iterdir()] == ["played.json"]


def test_two_games_of_one_kind_share_a_file(tmp_path):
    first, second = (GameRecord(tmp_path / "played.json", SETTINGS) for _ in range(2))
    first.add(ENTRY)
    second.add(replace(ENTRY, image=6))
    first.add(replace(ENTRY, image=7))
    assert [entry.image for entry in GameRecord(tmp_path / "played.json", SETTINGS).entries] == [5, 6, 7]


def test_an_image_that_another_game_kept_is_refused_and_counts_once(tmp_path):
    first, second = (GameRecord(tmp_path / "played.json", SETTINGS) for _ in range(2))
    first.add(ENTRY)
    sentence = "image 5 was answered in another game meanwhile; that answer stays in .*, and yours is discarded"
    with pytest.raises(AlreadyRecordedError, match=sentence):
        second.add(replace(ENTRY, answer=2, correct=False))
    assert second.entries == GameRecord(tmp_path / "played.json", SETTINGS).entries == [ENTRY]
    second.add(replace(ENTRY, image=6))
    assert [entry.image for entry in GameRecord(tmp_path / "played.json", SETTINGS).entries] == [5, 6]


def test_a_link_stays_one_and_its_file_is_written(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    link = tmp_path / "played.json"
    link.symlink_to(folder / "mine.json")
    record = GameRecord(link, SETTINGS)
    record.add(ENTRY)
    record.add(replace(ENTRY, image=6))
    assert link.is_symlink()
    assert [entry.image for entry in GameRecord(folder / "mine.json", SETTINGS).entries] == [5, 6]
    assert [found.name for found in folder.iterdir()] == ["mine.json"]
    assert sorted(found.name for found in tmp_path.iterdir()) == ["folder", "played.json"]


def test_a_link_that_leads_nowhere_is_told_before_anybody_plays(tmp_path):
    link, loop = tmp_path / "link.json", tmp_path / "loop.json"
    link.symlink_to(tmp_path / "none" / "mine.json")
    with pytest.raises(RecordError, match=r"expected a file .*link.json', whose folder '.*none' does not exist"):
        GameRecord(link, SETTINGS)
    loop.symlink_to(loop)
    with pytest.raises(RecordError, match="a link that leads to itself"):
        GameRecord(loop, SETTINGS)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(SETTINGS, seed=1), "another game, with seed=0 instead of 1"),
        (replace(SETTINGS, options={"split": "test", "num_glimpses": 6}), "num_glimpses=4 instead of 6"),
        (replace(SETTINGS, model={"file": "m.onnx", "sha256": "abcdef"}), "no model instead of the model 'm.onnx'"),
        (replace(SETTINGS, classes=("a", "b")), "another game, with classes="),
    ],
)
def test_another_game_is_refused_and_left_alone(other, sentence, tmp_path):
    path = tmp_path / "played.json"
    GameRecord(path, SETTINGS).add(ENTRY)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=sentence):
        GameRecord(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no JSON", "is no record of 'glimpse play'"),
        ("[1]", "is no record of 'glimpse play'"),
        ('{"schema_version": 9, "game": {}, "played": []}', "expected .* of version 1, got 9"),
    ],
)
def test_what_is_no_record_is_refused_and_left_alone(text, sentence, tmp_path):
    path = tmp_path / "played.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=sentence):
        GameRecord(path, SETTINGS)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "change",
    [{"label": 3}, {"answer": "x"}, {"times": None}, {"extra": 1}, {"model": {"answers": []}}, {"fixations": [[1]]}],
)
def test_a_damaged_record_is_told_apart(change, tmp_path):
    path = tmp_path / "played.json"
    GameRecord(path, SETTINGS).add(ENTRY)
    document = json.loads(path.read_text())
    document["played"][0].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(RecordError, match="is damaged"):
        GameRecord(path, SETTINGS)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "played.json"
    record = GameRecord(path, SETTINGS)
    record.add(ENTRY)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        record.add(replace(ENTRY, image=6))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["played.json"]
    assert record.entries == [ENTRY]


def test_a_file_that_can_not_be_is_told_before_anybody_plays(tmp_path, monkeypatch):
    with pytest.raises(RecordError, match=r"whose folder '.*none' does not exist; make the folder first"):
        GameRecord(tmp_path / "none" / "played.json", SETTINGS)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RecordError, match="which you have no permission to write; name another file, with --output"):
        GameRecord(tmp_path / "played.json", SETTINGS)


def test_a_file_that_went_away_comes_back_whole(tmp_path):
    path = tmp_path / "played.json"
    record = GameRecord(path, SETTINGS)
    record.add(ENTRY)
    path.unlink()
    record.add(replace(ENTRY, image=6))
    assert [entry.image for entry in GameRecord(path, SETTINGS).entries] == [5, 6]


def test_the_model_is_judged_at_the_persons_glimpses_and_at_its_own():
    entries = [
        replace(ENTRY, label=2, answer=2, glimpses=2, answered=1.0, model=RIVAL),
        replace(ENTRY, label=1, answer=0, correct=False, glimpses=4, answered=3.0, model=RIVAL),
        replace(ENTRY, label=1, answer=1, glimpses=1, answered=5.0, model=RIVAL),
    ]
    you, level, final = score_players(entries)
    assert (you.right, you.images, you.seconds) == (2, 3, 3.0)
    assert you.glimpses == pytest.approx(7 / 3)
    # After 2 it says 2, after 4 what it says after its 3, and after 1 it says 0.
    assert level.right == 2
    assert level.glimpses == pytest.approx(2.0)
    assert (final.right, final.glimpses, final.seconds) == (2, 3.0, None)


def test_without_a_model_there_are_the_persons_figures_alone():
    assert [figures.player for figures in score_players([ENTRY])] == ["you"]
    assert score_players([]) == []


def test_the_table_is_aligned_and_says_what_chance_does():
    lines = score_table(score_players([replace(ENTRY, model=RIVAL)])).splitlines()
    assert lines[0].split() == ["right", "accuracy", "glimpses", "seconds"]
    assert lines[1].split() == ["you", "1", "of", "1", "100%", "2.0", "2.2"]
    assert lines[1].index("100%") + 4 == lines[0].index("accuracy") + len("accuracy")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "One standard error of an accuracy over 1 image: about 47 points."
    assert standard_error_note(score_players([ENTRY] * 100)[0]).endswith("about 1 points.")


def test_the_docstring_tells_the_schema(tmp_path: Path):
    import glimpse_envs.play.record

    GameRecord(tmp_path / "played.json", SETTINGS).add(replace(ENTRY, model=RIVAL))
    document = json.loads((tmp_path / "played.json").read_text())
    names = [*document, *document["game"], *document["played"][0], *document["played"][0]["model"]]
    assert [name for name in names if f'"{name}"' not in (glimpse_envs.play.record.__doc__ or "")] == []
