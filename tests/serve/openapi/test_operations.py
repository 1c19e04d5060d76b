import pytest

from glimpse_serve.openapi import examples, operations
from glimpse_serve.settings import Settings


@pytest.fixture(scope="module")
def reported():
    return operations.operations(Settings(), ["owl"], 7)


def test_operations_with_a_body_describe_its_errors(reported):
    for operation in reported.values():
        if "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= operation["responses"].keys()


def test_the_picture_of_an_example_is_cut_short(reported):
    shown = reported["POST /v1/classify"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert len(shown["explained"]["value"]["picture"]) < 100
    assert len(examples.responses()["explained"]["picture"]) > 1000
    assert shown["classified"]["summary"] == "one image"


def test_only_the_examples_that_are_handed_over_are_shown():
    live = {"live": {"live": True}}
    shown = [
        example
        for operation in operations.operations(Settings(), ["owl"], 7, live).values()
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        for example in content.get("examples", {}).values()
    ]
    assert shown == [{"value": {"live": True}}]


def test_a_raw_binary_request_is_described(reported):
    infer = reported["POST /v2/models/{model}/infer"]
    assert "raw binary request" in infer["description"]
    assert infer["parameters"][0]["schema"]["minimum"] == 0
    assert "422" in infer["responses"]
