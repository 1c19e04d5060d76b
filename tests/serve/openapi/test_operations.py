from typing import Any

import pytest

from glimpse_serve.openapi import examples, operations
from glimpse_serve.settings import Settings


@pytest.fixture(scope="module")
def reported():
    return operations.operations(Settings(), ["owl"], 7)


def test_every_operation_has_the_common_errors():
    assert list(operations.errors()) == ["500", "503"]
    assert list(operations.errors(404, 400)) == ["400", "404", "500", "503"]


def test_an_error_is_shown_where_it_fits():
    def shown(found: dict[str, Any]) -> set[str]:
        return {status for status, answer in found.items() if "examples" in answer["content"]["application/json"]}

    assert shown(operations.errors(400, 404, 415, 422, of_images=True)) == {"400", "404", "415", "422"}
    assert shown(operations.errors(400, 404)) == {"404"}


def test_the_headers_of_errors_are_described(reported):
    found = operations.errors(401, 429)
    assert found["401"]["headers"]["WWW-Authenticate"]["schema"] == {"const": "Bearer"}
    assert "Retry-After" in found["429"]["headers"]
    assert "Retry-After" not in found["500"]["headers"]


def test_operations_with_a_body_describe_its_errors(reported):
    for operation in reported.values():
        if "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= operation["responses"].keys()


def test_the_picture_of_an_example_is_cut_short(reported):
    shown = reported["POST /v1/classify"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert len(shown["explained"]["value"]["picture"]) < 100
    assert len(examples.responses()["explained"]["picture"]) > 1000
    assert shown["classified"]["summary"] == "one image"
