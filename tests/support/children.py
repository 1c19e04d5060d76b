"""Programs in processes of their own, forked from one that has imported what they need and checks no signatures."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = (REPOSITORY, REPOSITORY / "envs", REPOSITORY / "serve")
SERVER = """
import gc, json, os, sys, types
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its thread would be missing in a child, which waits for it at its end
import onnx, onnxruntime, onnxscript, sklearn.datasets, tqdm
import torch, torch._dynamo, torch.export, torch.onnx, torchvision
import glimpse.cli.app, glimpse.cli.train.training_cli
import glimpse.export.checkpoint, glimpse.export.model, glimpse.export.program

def next_request():
    tqdm.tqdm.monitor_interval = 0  # it would start a thread
    # A first export imports more, and fills caches.
    torch.onnx.export(torch.nn.Conv2d(1, 1, 1), (torch.ones(1, 1, 2, 2),), dynamo=True, verbose=False)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads can't be forked"
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()

request = next_request()
for descriptor, path in enumerate((os.devnull, request["out"], request["err"])):
    opened = os.open(path, os.O_RDWR)
    os.dup2(opened, descriptor)
    os.close(opened)
os.chdir(request["cwd"])
os.environ.update(request["environment"])
sys.argv = ["-c", *request["arguments"]]
sys.modules["__main__"] = types.ModuleType("__main__")
exec(compile(request["program"], "<string>", "exec"), vars(sys.modules["__main__"]))
"""


class ForkServer:
    """A process that has imported torch and Glimpse, and forks a child for each program.

    A program that starts an interpreter of its own spends seconds on imports. The server has done them once, without
    the hook that checks signatures, and without starting a thread, so that it can be forked. It is started when the
    first program comes, and ends on leaving the context.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.communicate()

    def run(self, program: str, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
        """Run a program as ``python -c`` does, and return what it printed.

        Args:
            program: Its text.
            arguments: Its arguments.
            cwd: Where it runs; here if left out.
            environment: What it finds in the environment beside what is there.
        """
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            out.touch()
            err.touch()
            request = {
                "program": program,
                "arguments": arguments,
                "cwd": str(cwd or Path.cwd()),
                "environment": environment,
                "out": str(out),
                "err": str(err),
            }
            status = self._send(json.dumps(request))
            assert status == 0, f"status {status}\n{out.read_text()}{err.read_text()}"
            return out.read_text()

    def _send(self, line: str) -> int:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))},
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(line, file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())
