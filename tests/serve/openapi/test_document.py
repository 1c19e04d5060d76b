"""The description is valid, whole, and no more than the truth."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from glimpse_serve.gateway.authentication import OPEN_PATHS
from glimpse_serve.openapi.document import openapi_document
from glimpse_serve.routes.streaming import STREAMING_QUERY
from glimpse_serve.routes.v1 import CLASSIFY_QUERY, MODEL_QUERY
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


@pytest.fixture(scope="module")
def described(service) -> Any:
    return service.request("GET", "/openapi.json").json


def of_settings(service: Any, requires_key: bool = False, **options: Any) -> Any:
    return openapi_document(service.service.routes, Settings(**options), service.service.context.registry, requires_key)


def test_it_is_valid(described):
    OpenAPIV31SpecValidator(described).validate()
    assert described["openapi"] == "3.1.0"


def test_every_route_is_described_and_nothing_else(service, described):
    routes = {(path, method) for path, methods in service.service.routes.items() for method in methods}
    found = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    assert found == routes
    assert len(routes) > 15


def test_a_route_without_a_description_is_an_error(service):
    routes = {**service.service.routes, "/v2/new": {"GET": None}}
    with pytest.raises(KeyError, match="GET /v2/new"):
        openapi_document(routes, Settings(), service.service.context.registry, False)


def test_the_parameters_are_those_that_the_routes_read(described):
    def query(path: str, method: str) -> tuple[str, ...]:
        return tuple(each["name"] for each in described["paths"][path][method]["parameters"] if each["in"] == "query")

    assert query("/v1/classify", "post") == CLASSIFY_QUERY
    assert query("/v1/models/{model}", "get") == MODEL_QUERY
    assert query("/v1/look", "get") == STREAMING_QUERY
    for path, methods in described["paths"].items():
        for operation in methods.values():
            in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)


def test_the_limits_are_those_of_the_settings_and_the_models(service, described):
    classify = described["paths"]["/v1/classify"]["post"]
    limits = {each["name"]: each["schema"] for each in classify["parameters"]}
    assert limits["max_glimpses"]["maximum"] == 5
    assert limits["model"]["examples"] == ["adaptive", "episode"]
    strict = of_settings(service, max_images=3, max_bytes=12345, rate=7.0)
    form = strict["paths"]["/v1/classify"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["maxItems"] == 3
    assert "12,345 bytes" in strict["info"]["description"]
    assert "7 requests a second" in strict["info"]["description"]
    assert "a second" not in described["info"]["description"]


def test_every_error_has_the_same_form_and_every_response_an_id(described):
    for methods in described["paths"].values():
        for operation in methods.values():
            assert {"500", "503"} <= operation["responses"].keys()
            for status, answer in operation["responses"].items():
                assert answer["headers"]["X-Request-ID"]["required"]
                if status >= "4":
                    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


def test_keys_are_required_where_the_authenticator_requires_them(service):
    with_keys, without = of_settings(service, requires_key=True), of_settings(service)
    for path, methods in with_keys["paths"].items():
        for method, operation in methods.items():
            is_open = bool(OPEN_PATHS.fullmatch(path))
            assert operation["security"] == ([] if is_open else [{"bearer": []}, {"key": []}])
            assert ("401" in operation["responses"]) is not is_open
            assert without["paths"][path][method]["security"] == []
    assert of_settings(service, True, open_metrics=True)["paths"]["/metrics"]["get"]["security"] == []
    assert set(with_keys["components"]["securitySchemes"]) == {"bearer", "key"}


def test_every_operation_has_an_id_of_its_own(described):
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert len({operation["summary"] for operation in operations}) == len(operations)
    tags = {tag["name"] for tag in described["tags"]}
    assert all(set(operation["tags"]) <= tags for operation in operations)


def test_without_a_model_it_is_still_valid(tmp_path):
    with running(Settings(directory=str(tmp_path))) as made:
        OpenAPIV31SpecValidator(made.request("GET", "/openapi.json").json).validate()
        assert "No model is served at present" in made.request("GET", "/docs").body.decode()
