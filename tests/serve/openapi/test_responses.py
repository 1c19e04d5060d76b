from typing import Any

from glimpse_serve.openapi import responses


def test_every_operation_has_the_common_errors():
    assert list(responses.errors()) == ["500", "503"]
    assert list(responses.errors(404, 400)) == ["400", "404", "500", "503"]


def test_an_error_is_shown_where_it_fits():
    def shown(found: dict[str, Any]) -> set[str]:
        return {status for status, answer in found.items() if "examples" in answer["content"]["application/json"]}

    assert shown(responses.errors(400, 404, 415, 422, of_images=True)) == {"400", "404", "415", "422"}
    assert shown(responses.errors(400, 404)) == {"404"}


def test_the_headers_of_errors_are_described():
    found = responses.errors(401, 429)
    assert found["401"]["headers"]["WWW-Authenticate"]["schema"] == {"const": "Bearer"}
    assert "Retry-After" in found["429"]["headers"]
    assert "Retry-After" not in found["500"]["headers"]


def test_an_example_of_names_is_left_out_where_other_models_are_served():
    found = responses.errors(400, 404, of_images=True, shown={"400": {"error": "no"}})
    assert "examples" not in found["404"]["content"]["application/json"]
    assert found["400"]["content"]["application/json"]["examples"] == {"refused": {"value": {"error": "no"}}}


def test_a_body_without_examples_has_none():
    assert responses.json_examples({}) == {}
    assert "examples" not in responses.json_body("It.", {}, {})["content"]["application/json"]
    assert list(responses.text_body("It.", "text/html", "text/plain")["content"]) == ["text/html", "text/plain"]
