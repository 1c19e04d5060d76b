from typing import Any

import pytest

from glimpse_serve.openapi import examples, operations
from glimpse_serve.settings import Settings


@pytest.fixture(scope="module")
def told():
    return operations.operations(Settings(), ["owl"], 7)


def test_what_any_operation_may_answer_comes_along():
    assert list(operations.errors()) == ["500", "503"]
    assert list(operations.errors(404, 400)) == ["400", "404", "500", "503"]


def test_an_error_is_shown_where_it_fits():
    def shown(found: dict[str, Any]) -> set[str]:
        return {status for status, answer in found.items() if "examples" in answer["content"]["application/json"]}

    assert shown(operations.errors(400, 404, 415, 422, of_images=True)) == {"400", "404", "415", "422"}
    assert shown(operations.errors(400, 404)) == {"404"}


def test_the_headers_of_refusals_are_told(told):
    found = operations.errors(401, 429)
    assert found["401"]["headers"]["WWW-Authenticate"]["schema"] == {"const": "Bearer"}
    assert "Retry-After" in found["429"]["headers"]
    assert "Retry-After" not in found["500"]["headers"]


def test_bodies_are_told_with_every_status_that_they_may_meet(told):
    for operation in told.values():
        if "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= operation["responses"].keys()


def test_the_picture_of_an_example_is_cut_short(told):
    shown = told["POST /v1/classify"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert len(shown["explained"]["value"]["picture"]) < 100
    assert len(examples.answers()["explained"]["picture"]) > 1000
    assert shown["classified"]["summary"] == "one image"
