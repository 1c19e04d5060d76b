#!/usr/bin/env bash
# The serving extra, installed as a user installs it, in an environment without torch: it imports, it classifies an image
# with a model that the development environment has just exported, and it serves that model and those that come with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

.venv/bin/python .ci/export_untrained.py "$work/model.onnx" "$work/image.png"

# A copy, so that no stale build folder and no editable install takes part.
mkdir "$work/source"
cp -R pyproject.toml README.md LICENSE glimpse envs serve "$work/source"
.venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$work/source[serve]"

cd "$work"
unset PYTHONPATH
venv/bin/python -m pip check
venv/bin/python - <<'PYTHON'
import importlib.util
import sys
from importlib import resources

for name in ("torch", "torchvision", "pytorch_lightning", "gymnasium", "sklearn"):
    if importlib.util.find_spec(name):
        sys.exit(f"expected an environment without {name}, but it is installed: which requirement brings it?")

import glimpse
import glimpse_serve

for package in (glimpse, glimpse_serve):
    if not package.__file__.startswith(sys.prefix):
        sys.exit(f"expected the installed {package.__name__}, got the one at {package.__file__}")
recipes = resources.files("glimpse.cli.train").joinpath("configs")
if not recipes.joinpath("digits.yaml").is_file():
    sys.exit(f"expected the training recipes in {recipes}, found none: what does package-data in pyproject.toml leave out?")
print(f"glimpse {glimpse.__version__} and glimpse_serve import without torch")
PYTHON

venv/bin/glimpse classify model.onnx image.png --json > answer.json
venv/bin/python -m json.tool answer.json

venv/bin/python - <<'PYTHON'
import json
import re
import subprocess
import time
import urllib.request


def is_ready(address):
    try:
        with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=10) as response:
            return response.status == 200
    except OSError:
        return False


for models, name in (["model.onnx"], "model"), ([], "digits-hard"):
    command = ["venv/bin/glimpse", "serve", "--port", "0", *models]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            address = next(found.group() for line in service.stderr if (found := re.search(r"http://\S+", line)))
            while not is_ready(address):
                if service.poll() is not None:
                    raise SystemExit(f"expected a service, it ended: {service.stderr.read()}")
                time.sleep(0.05)
            request = urllib.request.Request(f"{address}/v1/classify", open("image.png", "rb").read())
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
            if answer["model"] != {"name": name, "version": "1"} or not answer["glimpses"]:
                raise SystemExit(f"expected a prediction of the model {name}, got {answer}")
            service.terminate()
            if status := service.wait(30):
                raise SystemExit(f"expected a service that exits with 0 after SIGTERM, got {status}")
        finally:
            service.kill()
    print(f"glimpse serve returns the class {answer['class']} with {name}, and stops after SIGTERM")
PYTHON
