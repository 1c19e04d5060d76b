"""What is under deploy/: linted, valid by its schemas, in accord with the service; and the steps of the image."""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from glimpse_serve.gateway.api_keys import make_key, read_entries
from glimpse_serve.settings import Settings, settings_from
from tests.support import toys
from tests.support.service import png

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
HEAVY = ("torch", "torchvision", "pytorch_lightning", "gymnasium", "sklearn", "ray")


class Instruction(NamedTuple):
    """A line of a Dockerfile, with those that continue it."""

    name: str
    arguments: str


def dockerfile() -> list[Instruction]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line]


def arguments(name: str) -> list[str]:
    return [each.arguments for each in dockerfile() if each.name == name]


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for line in arguments("ENV") for pair in line.split())


def health_check() -> list[str]:
    (line,) = arguments("HEALTHCHECK")
    command: list[str] = json.loads(line.partition("CMD ")[2])
    return command


def manifests() -> dict[str, Any]:
    listed = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    found = {each["kind"]: each for each in listed}
    assert len(found) == len(listed)
    return found


def compose() -> dict[str, Any]:
    whole = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service: dict[str, Any] = whole["services"]["glimpse"]
    return service


def settings(*given: Mapping[str, str]) -> Settings:
    """The settings that an environment makes; a variable that is none of the service's is refused."""
    together = {name: value for each in given for name, value in each.items()}
    return settings_from(argparse.Namespace(), together)


def tool(name: str, module: str) -> str:
    if importlib.util.find_spec(module) is None and not shutil.which(name, path=Path(sys.executable).parent):
        pytest.skip(f"needs {name}, of the extra 'dev'")
    return str(Path(sys.executable).parent / name)


@pytest.mark.child
@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "--failure-threshold", "style", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
        ("kubernetes-validate", "--strict", "kubernetes.yaml"),
    ],
    ids=lambda command: command[0],
)
def test_its_linter_finds_nothing(command):
    done = subprocess.run(
        [tool(command[0], command[0].replace("-", "_")), *command[1:]], cwd=DEPLOY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_the_process_itself_as_nobody_in_particular():
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["glimpse", "serve"]
    user, group = arguments("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    last = max(place for place, each in enumerate(dockerfile()) if each.name == "FROM")
    final = [each.name for each in dockerfile()[last:]]
    assert "RUN" not in final  # nothing is built where it runs
    assert final.index("USER") < final.index("ENTRYPOINT")
    assert arguments("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_is_made_of_what_the_wheel_is_made_of_and_nothing_else():
    copied = {name for line in arguments("COPY") if not line.startswith("--from") for name in line.split()[:-1]}
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    assert copied == {line[1:] for line in lines if line.startswith("!")}
    assert all((REPOSITORY / name).exists() for name in copied)


def test_all_of_them_listen_at_one_port_and_say_what_the_service_knows():
    image = environment()
    of_pods = manifests()["ConfigMap"]["data"]
    listed: list[dict[str, str]] = [{}, compose()["environment"], of_pods]
    for given in listed:
        found = settings({name: value for name, value in image.items() if name.startswith("GLIMPSE_")}, given)
        assert (found.host, found.port) == ("0.0.0.0", int(arguments("EXPOSE")[0]))
        assert found.drain_seconds > 0
        assert not found.allow_anonymous
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": int(image["GLIMPSE_SERVE_PORT"])}]
    assert compose()["ports"] == [f"127.0.0.1:8000:{image['GLIMPSE_SERVE_PORT']}"]
    assert manifests()["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == int(image["GLIMPSE_SERVE_PORT"])


def test_it_is_given_the_time_that_its_stop_takes():
    image = {name: value for name, value in environment().items() if name.startswith("GLIMPSE_")}
    given = settings(image, compose()["environment"])
    assert int(compose()["stop_grace_period"].removesuffix("s")) > given.drain_seconds + given.shutdown_seconds
    given = settings(image, manifests()["ConfigMap"]["data"])
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > given.drain_seconds + given.shutdown_seconds
    probe = pod["containers"][0]["readinessProbe"]
    # A pod is known to be on its way out before it takes no more connections.
    assert probe["periodSeconds"] * probe["failureThreshold"] < given.drain_seconds


def test_pods_have_no_rights_and_one_place_to_write_at():
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == arguments("USER")[-1]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == [environment()["HOME"]] == ["/tmp"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert compose()["read_only"] is True
    assert compose()["tmpfs"][0].startswith("/tmp:")


def test_names_in_the_manifest_mean_each_other():
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == labels
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", found["Deployment"]["metadata"]["name"])
    assert "replicas" not in found["Deployment"]["spec"]  # or each apply would undo the scaling
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["keys"]["secret"]["secretName"] == found["Secret"]["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert pod["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert pod["spec"]["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    (name,) = found["Secret"]["stringData"]
    assert found["ConfigMap"]["data"]["GLIMPSE_SERVE_KEYS_FILE"].rpartition("/")[2] == name
    assert len(read_entries(found["Secret"]["stringData"][name], "the Secret")) == 1


class Image(NamedTuple):
    """What the Dockerfile's steps leave behind, in a folder instead of an image."""

    root: Path
    environment: dict[str, str]

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program
        return subprocess.run(
            [program, *command[1:]], env={**self.environment, **more}, cwd=self.root, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Run the Dockerfile's steps: its absolute paths are in a folder, and stages share it, as they agree on paths."""
    root = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)  # in place of the image of python
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
    known = {**kept, "PATH": f"{root / 'python' / 'bin'}:/usr/bin:/bin", "TMPDIR": str(root)}
    stage, here = dict(known), root

    def moved(text: str) -> str:
        return re.sub(r"(?<![\w.}])/(source|wheels|opt)\b", rf"{root}/\1", text)

    for name, text in dockerfile():
        if name == "FROM":
            assert text.startswith("python:${PYTHON}-slim")
            stage, here = dict(known), root
        elif name == "ARG":
            key, _, value = text.partition("=")
            stage[key] = value
        elif name == "ENV":
            for pair in text.split():
                key, _, value = pair.partition("=")
                stage[key] = moved(value).replace("$PATH", stage["PATH"])
        elif name == "WORKDIR":
            here = root / text.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif name == "COPY" and text.startswith("--from"):
            _, there, copied = text.split()
            assert there == copied
        elif name == "COPY":
            *sources, target = text.split()
            for source in sources:
                if (REPOSITORY / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
                    shutil.copytree(REPOSITORY / source, here / target, ignore=ignored)
                else:
                    shutil.copy(REPOSITORY / source, here / target)
        elif name == "RUN":
            done = subprocess.run(["sh", "-ec", moved(text)], cwd=here, env=stage, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            assert name in ("LABEL", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"), name
    return Image(root, {**stage, "HOME": str(root / "tmp")})


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


def files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.rglob("*"):
        yield str(path), path.lstat().st_mtime_ns


@pytest.mark.child
@pytest.mark.slow
def test_the_steps_of_the_image_give_a_service_without_torch_that_stops_when_told(image, port, tmp_path):
    listed = image.run(
        ["python", "-c", f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)], end='')"]
    )
    assert listed.stdout == "[]"
    models = tmp_path / "models"
    models.mkdir()
    toys.write_toy(models / "toy.onnx", toys.ADAPTIVE)
    secret, line = make_key("alice")
    keys = tmp_path / "glimpse.keys"
    keys.write_text(f"{line}\n")
    own = {
        "GLIMPSE_SERVE_PORT": str(port),
        "GLIMPSE_SERVE_DIRECTORY": str(models),
        "GLIMPSE_SERVE_KEYS_FILE": str(keys),
        "GLIMPSE_SERVE_DRAIN_SECONDS": "0.2",
        "TMPDIR": str(tmp_path),
    }
    entrypoint, check = json.loads(arguments("ENTRYPOINT")[0]), health_check()
    anonymous = image.run(entrypoint, GLIMPSE_SERVE_PORT=str(port))
    assert anonymous.returncode == 2
    assert "expected API keys" in anonymous.stderr

    assert image.run(check, **own).returncode != 0
    before = dict(files(image.root))
    program = shutil.which(entrypoint[0], path=image.environment["PATH"])
    assert program
    assert program.startswith(str(image.root))
    command, environment = [program, *entrypoint[1:]], {**image.environment, **own}
    with subprocess.Popen(command, env=environment, cwd=image.root / "tmp") as process:
        try:
            deadline = time.monotonic() + 60
            while image.run(check, **own).returncode and time.monotonic() < deadline:
                assert process.poll() is None
            assert image.run(check, **own).returncode == 0
            address = f"http://127.0.0.1:{port}/v1/classify"
            request = urllib.request.Request(address, png(toys.noise(20, 30, 1)), {"X-API-Key": secret})
            with urllib.request.urlopen(request, timeout=20) as response:
                assert json.loads(response.read())["class"] in toys.ADAPTIVE.classes
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(address, b"", timeout=20)
            with caught.value:
                assert caught.value.code == 401
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    # Its file system may be read only.
    assert dict(files(image.root)) == before
