"""The service does what its description says, whatever it is sent: schemathesis over the real service.

All its checks are made but these: positive_data_acceptance, since no schema can say that bytes are an image, or that a
tensor's shape fits its data and its model; use_after_free and ensure_resource_availability, since nothing is made or
deleted here; ignored_auth, since it takes 429, which is what many wrong keys are answered, for a fault: the last test
is in its place.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import NonFatalError, ScenarioFinished

from glimpse_serve.gateway.api_keys import make_key
from glimpse_serve.settings import Settings
from tests.support.service import Running, running, toy_files

LEFT_OUT = ["positive_data_acceptance", "use_after_free", "ensure_resource_availability", "ignored_auth"]
MADE = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
}
EXAMPLES = 20


def narrowed(described: Any) -> Any:
    """The description with paths that lead to a model, so that what is behind them is reached."""
    names = {"model": ["adaptive", "episode"], "version": ["1"]}
    for methods in described["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": names[parameter["name"]]}
    return described


def judged(service: Running, described: Any) -> tuple[list[str], Counter[str], Counter[int]]:
    """What schemathesis finds wrong, how often it made each check, and the statuses of the answers."""
    config = SchemathesisConfig(seed=6)
    schema = schemathesis.openapi.from_dict(described, config=config)
    schema.config.update(base_url=service.address, workers=1, continue_on_failure=True)
    schema.config.generation.update(max_examples=EXAMPLES, deterministic=True, no_shrink=True, database="none")
    schema.config.checks.update(excluded_check_names=LEFT_OUT)
    rejecting = schema.config.checks.negative_data_rejection
    rejecting.expected_statuses = [*rejecting.expected_statuses, "413", "426"]  # too many images; no WebSocket
    faults: list[str] = []
    checks: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError):
            faults.append(f"{event.label}: {event.value!r}")
        if isinstance(event, ScenarioFinished):
            statuses.update(each.response.status_code for each in event.recorder.interactions.values() if each.response)
            for case, made in event.recorder.checks.items():
                for check in made:
                    checks[check.name] += 1
                    if check.failure_info is not None:
                        failure = check.failure_info.failure
                        sent = event.recorder.cases[case].value.as_curl_command()
                        faults.append(f"{event.label} {check.name}: {failure.title}: {failure.message}\n  {sent[:600]}")
    return faults, checks, statuses


@pytest.mark.slow
def test_the_service_keeps_to_its_description(tmp_path: Path):
    with running(Settings(models=toy_files(tmp_path))) as made:
        described = narrowed(made.request("GET", "/openapi.json").json)
        faults, checks, statuses = judged(made, described)
    assert not faults, "\n".join(faults)
    assert checks.keys() >= MADE
    assert statuses[200] > 100
    assert statuses[400] > 100


def test_keys_are_wanted_where_the_description_says_so(tmp_path: Path):
    secret, entry = make_key("me")
    with running(Settings(models=toy_files(tmp_path), keys=entry)) as made:
        described = made.request("GET", "/openapi.json", X_API_Key=secret).json
        secured = 0
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                place = path.format(model="adaptive", version="1")
                response = made.request(method.upper(), place)
                # Who tries many wrong keys is told to wait instead.
                assert (response.status in (401, 429)) is bool(operation["security"]), (method, path)
                assert made.request(method.upper(), place, X_API_Key=secret).status not in (401, 429)
                secured += bool(operation["security"])
    assert secured > 10
