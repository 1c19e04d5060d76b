import json
import threading

import pytest

from glimpse_envs.play.opponent import Opponent
from tests.support.play import PageClient, decode_data_url, make_game, serve_in_thread


def test_a_game_is_played_over_http(client, tmp_path):
    state = client.state()
    assert (state["position"], state["images"], state["budget"], state["taken"]) == (0, 2, 3, 1)
    status, state = client.move("look", place=[30, 0])
    assert status == 200
    assert state["taken"] == 2
    assert client.server.service.game.round.glimpses[1].location == (1.0, -1.0)
    assert state["boxes"] == [seen.boxes.tolist() for seen in client.server.service.game.round.glimpses]
    status, state = client.move("answer", answer=5)
    assert state["result"]["correct"] == (state["result"]["label"] == 5)
    assert decode_data_url(state["result"]["picture"]).shape[2] == 3
    assert state["figures"] is None
    client.move("next")
    client.move("answer", answer=1)
    status, state = client.move("next")
    assert state["finished"]
    assert state["figures"][0][:2] == [
        "you",
        f"{sum(e.correct for e in client.server.service.game.record.entries)} of 2",
    ]
    assert json.loads((tmp_path / "played.json").read_text())["played"][0]["fixations"][1] == [1.0, -1.0]
    status, told = client.move("next")
    assert (status, told["error"]) == (
        400,
        "expected an image to go on to, but all have been played; start another game",
    )


def test_before_the_answer_no_more_is_told_than_was_seen(client):
    client.state()
    texts = [client.send("GET", "/state")[1], client.send("GET", "/")[1]]
    for place in ([3, 3], [25.5, 20]):
        _, state = client.move("look", place=place)
        texts.append(json.dumps(state).encode())
        assert state["result"] is None
        played = client.server.service.game.round
        shown, view = decode_data_url(state["view"]), played.revealed()
        assert (shown[..., 3] > 0).tolist() == view.visible.tolist()
        assert (shown[..., :3] == view.image).all()
        assert not shown[..., :3][~view.visible].any()
    assert not any(word in text for text in texts for word in (b'"label":', b'"correct":', b'"picture":'))
    assert set(state) == {
        *("game", "turn", "position", "images", "classes", "height", "width", "budget", "taken", "windows", "colours"),
        *("view", "boxes", "result", "finished", "figures", "chance", "record"),
    }


def test_the_model_is_told_of_after_the_answer_alone(tmp_path, exported):
    fitting = {"canvas_height": 40, "canvas_width": 52, "num_pieces": 3, "num_scales": 2}
    server, thread = serve_in_thread(make_game(tmp_path, opponent=Opponent(exported.path), **fitting))
    try:
        client = PageClient(server)
        assert client.state()["result"] is None
        _, state = client.move("answer", answer=0)
        said = state["result"]["model"]["said"]
        assert [told["glimpses"] for told in said] == [1, 3]
        entry = server.service.game.record.entries[0]
        assert [told["answer"] for told in said] == [entry.model.answers[0], entry.model.answers[2]]
        assert decode_data_url(state["result"]["model"]["picture"]).shape[2] == 3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_two_pages_can_not_play_against_each_other(client):
    other = PageClient(client.server)
    client.state()
    other.state()
    assert client.move("look", place=[1, 1])[0] == 200
    status, told = other.move("answer", answer=3)
    assert (status, told["error"]) == (409, "another page has changed the game; this is the current state")
    assert told["state"]["taken"] == 2
    other.latest = told["state"]
    assert other.move("answer", answer=3)[0] == 200
    assert client.move("answer", answer=4)[0] == 409
    assert [entry.answer for entry in client.server.service.game.record.entries] == [3]
    other.latest["game"] = "another"
    assert other.move("next")[0] == 409


def test_moves_at_once_are_made_one_by_one(client):
    client.state()
    others = [PageClient(client.server) for _ in range(8)]
    statuses = []

    def look(other):
        other.latest = dict(client.latest)
        statuses.append(other.move("look", place=[5, 5])[0])

    threads = [threading.Thread(target=look, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[409] * 7]
    assert client.server.service.game.round.glimpses_taken == 2


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        ("look", {}, "expected place to be [x, y] in pixels, got null"),
        ("look", {"place": [1]}, "expected place to be [x, y] in pixels, got [1]"),
        ("look", {"place": [1, "2"]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [True, 2]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [float("nan"), 2]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [31, 2]}, "expected a place on the image"),
        ("look", {"place": [10**400, 2]}, "expected place to be [x, y] in pixels"),
        ("answer", {}, "expected answer to be a class's number, got None"),
        ("answer", {"answer": 10}, "expected a class from 0 to 9, got 10"),
        ("answer", {"answer": -1}, "expected a class from 0 to 9, got -1"),
        ("answer", {"answer": True}, "expected answer to be a class's number, got True"),
        ("next", {}, "answer first"),
    ],
)
def test_a_move_that_is_none_is_refused_in_a_sentence(kind, values, sentence, client):
    client.state()
    status, told = client.move(kind, **values)
    assert status == 400
    assert sentence in told["error"]
    assert client.state()["taken"] == 1


def test_what_can_not_be_kept_is_told_and_kept_later(client, monkeypatch):
    client.state()
    record = client.server.service.game.record

    def fail(entry):
        raise OSError(28, "No space left on device", "played.json")

    with monkeypatch.context() as disk:
        disk.setattr(record, "add", fail)
        status, told = client.move("answer", answer=1)
    assert status == 500
    assert "the result can't be saved" in told["error"]
    assert told["state"]["result"]["answer"] == 1
    client.state()
    assert client.move("next")[0] == 200
    assert len(record.entries) == 1


def test_an_image_that_another_game_kept_is_told_and_gone_on_from(client, tmp_path):
    make_game(tmp_path).answer(3)
    client.state()
    status, told = client.move("answer", answer=5)
    assert status == 409
    assert told["error"].startswith("image 4 was answered in another game meanwhile; that answer stays")
    client.latest = told["state"]
    status, state = client.move("next")
    assert (status, state["position"]) == (200, 1)
    assert [entry.answer for entry in client.server.service.game.record.entries] == [3]
