"""A headless Chromium over its DevTools pipe: what a page does in a real browser, by the standard library alone."""

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@functools.cache
def find_browser() -> str | None:
    """The first Chromium or Chrome on PATH that starts; a script there may only say how to get it."""
    return next((found for found in map(shutil.which, NAMES) if found and _starts(found)), None)


def _starts(program: str) -> bool:
    done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.returncode == 0


class Browser:
    """One page in one Chromium. events: what Chromium told since the start, as DevTools has it, but answers."""

    def __init__(self, profile: Path):
        to_browser, from_browser = os.pipe(), os.pipe()
        command = [find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--no-first-run", "--disable-extensions", "--disable-background-networking",
                   "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                   "--remote-debugging-pipe", "about:blank"]  # fmt: skip
        # Chromium reads commands from descriptor 3 and answers on 4
        shell = f'exec 3<&{to_browser[0]} 4>&{from_browser[1]}; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(to_browser[0], from_browser[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self.write_end, self.read_end = to_browser[1], from_browser[0]
        self.events, self._answers, self._buffer, self._number, self._session = [], {}, b"", 0, None
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.write_end)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_end)

    def send(self, method: str, **params) -> dict:
        """Chromium's answer to one command. Raises RuntimeError if it refuses, TimeoutError if there is none."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        number = self._number
        self._read_until(lambda: number in self._answers, method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Loads a page, at a size and in a colour scheme."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        seen = len(self.events)
        self.send("Page.navigate", url=address)
        self._read_until(lambda: self._told("Page.loadEventFired", seen), address)

    def run(self, script: str):
        """The value of a JavaScript expression, a promise's once it is kept. Raises RuntimeError if it throws."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key of the keyboard, down and up; code is Windows' number of it."""
        keys = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.send("Input.dispatchKeyEvent", type="keyDown", **keys)
        self.send("Input.dispatchKeyEvent", type="keyUp", **keys)

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(data))

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [event["params"]["request"]["url"] for event in self._all("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[dict]:
        """Exceptions, messages to the console, and what Chromium logs itself, such as a refused script."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event["params"] for kind in kinds for event in self._all(kind)]

    def _all(self, method: str) -> list[dict]:
        return [event for event in self.events if event["method"] == method]

    def _told(self, method: str, since: int) -> bool:
        return any(event["method"] == method for event in self.events[since:])

    def _read_until(self, done, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            ready, _, _ = select.select([self.read_end], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self.read_end, 1 << 16) if ready else b""
            if not chunk:
                raise TimeoutError(f"{what}: Chromium gave no answer (exit status {self.process.poll()})")
            *messages, self._buffer = (self._buffer + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                else:
                    self.events.append(message)
