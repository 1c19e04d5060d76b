import pickle

from glimpse_serve.errors import HTTPError


def test_it_holds_what_it_was_given():
    refusal = HTTPError(503, "come again", "overload", {"Retry-After": "2"})
    assert (refusal.status, refusal.message, refusal.kind, refusal.headers) == (
        503,
        "come again",
        "overload",
        {"Retry-After": "2"},
    )
    assert str(refusal) == "come again"
    assert HTTPError(400, "no", "body").headers == {}


def test_it_goes_to_another_process_whole():
    sent = pickle.dumps(HTTPError(503, "try again", "overload", {"Retry-After": "1"}))
    came = pickle.loads(sent)  # noqa: S301 - our own
    assert (came.status, came.message, came.kind, came.headers) == (503, "try again", "overload", {"Retry-After": "1"})
    assert str(came) == "try again"
