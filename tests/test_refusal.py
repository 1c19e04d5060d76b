from glimpse_serve.refusal import Refusal


def test_it_says_what_it_was_given():
    refusal = Refusal(503, "come again", "overload", {"Retry-After": "2"})
    assert (refusal.status, refusal.sentence, refusal.kind, refusal.headers) == (
        503,
        "come again",
        "overload",
        {"Retry-After": "2"},
    )
    assert str(refusal) == "come again"
    assert Refusal(400, "no", "body").headers == {}
