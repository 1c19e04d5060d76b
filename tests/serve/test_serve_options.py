import argparse
from dataclasses import fields

import pytest

from glimpse.cli.usage import UsageError
from glimpse_serve.settings import Settings, add_arguments, descriptions, settings_from


def settings(*args: str, **environment: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from(
        parser.parse_args(args), {f"GLIMPSE_SERVE_{name}": value for name, value in environment.items()}
    )


def test_nothing_said_leaves_the_defaults():
    assert settings() == Settings()


def test_every_setting_is_an_option_with_a_sentence():
    assert set(descriptions()) == {field.name for field in fields(Settings)}
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for field in fields(Settings):
        if field.name != "models":
            assert f"--{field.name.replace('_', '-')}" in text
    assert "requests that may wait for a model; further requests get 503 at once; 256 if left out" in text
    assert "``" not in text
    assert ":data:" not in text


def test_options_win_over_the_environment():
    found = settings("a.onnx", "b=c.onnx", "--max-queue", "7", MAX_QUEUE="9", MAX_BATCH="3", RATE="2")
    assert found == Settings(models=("a.onnx", "b=c.onnx"), max_queue=7, max_batch=3, rate=2.0)


def test_what_is_several_or_true_can_stand_in_the_environment():
    found = settings(MODELS="a.onnx, b=c.onnx", CORS="https://x.org,https://y.org", ALLOW_ANONYMOUS="true", TRACING="0")
    assert found.models == ("a.onnx", "b=c.onnx")
    assert found.cors == ("https://x.org", "https://y.org")
    assert found.allow_anonymous is True
    assert found.tracing is False
    assert settings("--cors", "https://z.org", "--cors", "https://w.org").cors == ("https://z.org", "https://w.org")
    assert settings("--allow-anonymous", ALLOW_ANONYMOUS="false").allow_anonymous is True


@pytest.mark.parametrize(
    ("args", "environment", "message"),
    [
        (["--port", "x"], {}, "--port: expected a whole number, got 'x'"),
        (["--port", "70000"], {}, "--port: expected 0 to 65535, got 70000"),
        (["--workers", "0"], {}, "--workers: expected 1 to 256, got 0"),
        (["--rate", "-1"], {}, "--rate: expected 0 to"),
        (["--rate", "nan"], {}, "--rate: expected 0 to"),
        (["--deadline-seconds", "0"], {}, "--deadline-seconds: expected"),
        (["--log-format", "xml"], {}, "--log-format: expected one of json, text, got 'xml'"),
        (["--path-prefix", "glimpse/"], {}, "--path-prefix: expected a path such as /glimpse"),
        (["--tls-key", "x"], {}, "--tls-certificate and --tls-key: expected both"),
        ([], {"MAX_QUEUE": "many"}, "GLIMPSE_SERVE_MAX_QUEUE: expected a whole number, got 'many'"),
        ([], {"TRACING": "perhaps"}, "GLIMPSE_SERVE_TRACING: expected true or false, got 'perhaps'"),
        ([], {"MAX_QUEU": "3"}, "GLIMPSE_SERVE_MAX_QUEU is none of the service's.*GLIMPSE_SERVE_MAX_QUEUE"),
    ],
)
def test_invalid_values_are_errors_that_name_the_option(args, environment, message):
    with pytest.raises(UsageError, match=message):
        settings(*args, **environment)
