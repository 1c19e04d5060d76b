import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.routes import v2_json


def test_an_object_is_parsed():
    assert v2_json.read_json(memoryview(b'{"id": "a", "inputs": [{}]}')) == {"id": "a", "inputs": [{}]}


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (b"", 400, "expected JSON"),
        (b"{", 400, "expected JSON"),
        (b"[]", 400, r"expected the request as a JSON object, got \[\]"),
        (b"[" * (v2_json.MAX_NESTED + 1), 413, "lists and objects"),
        (b" " * (v2_json.MAX_JSON_BYTES + 1), 413, "bytes of JSON"),
    ],
)
def test_other_json_is_rejected(text, status, message):
    with pytest.raises(HTTPError, match=message) as error:
        v2_json.read_json(memoryview(text))
    assert error.value.status == status


def test_values_of_another_type_are_rejected():
    assert v2_json.json_objects([{"name": "a"}], "inputs", 1) == [{"name": "a"}]
    values: tuple[object, ...] = (None, {}, [], [1])
    for value in values:
        with pytest.raises(HTTPError, match="'inputs'"):
            v2_json.json_objects(value, "inputs", 1)
    assert v2_json.parameters_of({}) == v2_json.parameters_of({"parameters": None}) == {}
    with pytest.raises(HTTPError, match="'parameters' as a JSON object, got 1"):
        v2_json.parameters_of({"parameters": 1})
    assert v2_json.flag_of({"ready": True}, "ready", False)
    assert not v2_json.flag_of({}, "ready", False)
    with pytest.raises(HTTPError, match="ready as true or false, got 1"):
        v2_json.flag_of({"ready": 1}, "ready", False)


def test_a_value_is_quoted_in_at_most_60_characters():
    assert v2_json.quoted("a") == '"a"'
    assert v2_json.quoted([1] * 100).endswith("...")
    assert len(v2_json.quoted([1] * 100)) == 60
    assert v2_json.quoted(object()) == "object"
