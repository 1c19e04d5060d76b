from glimpse_serve.settings import Settings
from tests.support import toys
from tests.support.service import png, running, toy_files


def test_given_models_and_those_of_the_directory_are_served_together(tmp_path):
    directory = tmp_path / "models"
    directory.mkdir()
    toys.write_toy(directory / "cat.onnx", toys.EPISODE)
    with running(Settings(models=toy_files(tmp_path)[:1], directory=str(directory))) as service:
        assert [model["name"] for model in service.request("GET", "/v1/models").json["models"]] == ["adaptive", "cat"]
        assert service.request("POST", "/v1/classify?model=cat", png(toys.noise(20, 30, 1))).status == 200
        assert service.request("GET", "/v2/health/ready").json == {"ready": True}
        text = service.request("GET", "/metrics").body.decode()
        assert 'glimpse_requests_total{method="POST",route="/v1/classify",status="200"} 1.0' in text
        service.service.drain()
        response = service.request("GET", "/v2/health/ready")
        assert (response.status, "being stopped" in response.error) == (503, True)
        assert service.request("GET", "/v2/health/live").status == 200


def test_keys_are_wanted_where_there_are_some(tmp_path):
    from glimpse_serve.gateway.api_keys import make_key

    secret, entry = make_key("alice")
    with running(Settings(models=toy_files(tmp_path)[:1], keys=entry)) as service:
        for path in ("/v1/models", "/v2", "/metrics", "/nowhere", "/v1/models/adaptive"):
            response = service.request("GET", path)
            assert (response.status, response.headers["www-authenticate"]) == (401, 'Bearer realm="glimpse"')
            assert service.request("GET", path, X_API_Key="wrong").error.count("not known") == 1
        assert service.request("GET", "/v1/models", Authorization=f"Bearer {secret}").status == 200
        assert service.request("GET", "/v1/models", X_API_Key=secret).status == 200
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert service.request("GET", path).status == 200
        assert service.request("GET", "/v2/models/adaptive/ready", X_API_Key=secret).status == 200
