"""Chromium for tests of pages."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Self


class Chromium:
    """A Chromium process, controlled over its debugging pipe with one JSON message at a time."""

    def __init__(self, program: str, folder: Path) -> None:
        command, told = os.pipe(), os.pipe()
        ours, theirs = (command[1], told[0]), (command[0], told[1])
        # The pipe's ends must be descriptors 3 and 4; a shell puts them there.
        script = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        self.process = subprocess.Popen(
            ["bash", "-c", script, program, *flags, "--remote-debugging-pipe", f"--user-data-dir={folder}"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in theirs:
            os.close(end)
        self._to, self._from = os.fdopen(ours[0], "wb", 0), os.fdopen(ours[1], "rb")
        self._count, self._session = 0, ""
        self.complaints: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._to, self._from):
            stream.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()

    def _attach(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            text = b""
            while not text.endswith(b"\0"):
                letter = self._from.read(1)
                assert letter, "the browser has gone"
                text += letter
            found = json.loads(text[:-1])
            if found.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(found["params"])
            if found.get("id") == self._count:
                assert "error" not in found, found
                return found["result"]

    def script(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not self.script(expression):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.05)

    def box(self, selector: str) -> list[float]:
        found: list[float] = self.script(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; })()"
        )
        return found

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        left, top, width, height = self.box(selector)
        place = {"x": left + across * width, "y": top + down * height}
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def touch(self, selector: str, across: float, down: float) -> None:
        left, top, width, height = self.box(selector)
        points = [{"x": left + across * width, "y": top + down * height}]
        self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, text: str = "") -> None:
        letters = {"text": text} if text else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **letters)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def hold(self, key: str, text: str, times: int) -> None:
        for repeat in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, autoRepeat=repeat > 0)
            self.until("!busy")
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.until("!busy")

    def drag(self, start: str, end: str) -> None:
        for kind, selector, held in (("mousePressed", start, 0), ("mouseReleased", end, 1)):
            left, top, width, height = self.box(selector)
            place = {"x": left + width / 2, "y": top + height / 2}
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", buttons=held, **place)
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
        self.until("!busy")
