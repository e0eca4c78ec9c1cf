# SPDX-License-Identifier: MIT
"""Chromium without a window, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time

from websockets.sync.client import connect

WAIT_S = 30
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser():
    """The path of a Chromium; None: there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser of its own."""

    def __init__(self, path):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self._folder.name}", "--no-first-run", "--disable-gpu"]
        flags += ["--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses its sandbox to root
        # Without what a sanitizer preloads into the tests.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self._stack = contextlib.ExitStack()
        self._process = subprocess.Popen(
            [path, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._numbers = itertools.count(1)
        self.errors = []  # what the page has logged as an error: exceptions, violations of its policy
        try:
            self._socket = self._stack.enter_context(connect(self._address(), max_size=None, open_timeout=WAIT_S))
            target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
            attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Accessibility"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _address(self):
        for line in self._process.stderr:
            if "DevTools listening on " in line:
                return line.split()[-1]
        raise RuntimeError("the browser has not started")

    def _call(self, method, params=None, session="own"):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=WAIT_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["exception"].get("description", "exception"))
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    def open(self, url):
        self._call("Page.navigate", {"url": url})

    def evaluate(self, script):
        """The value of an expression, which may be a promise."""
        params = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", params)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait_for(self, script):
        """Wait until an expression is true; returns its value."""
        deadline = time.monotonic() + WAIT_S
        while True:
            value = self.evaluate(f"new Promise(done => {{ const value = ({script}); value ? done(value) : setTimeout(() => done(({script})), 50) }})")
            if value:
                return value
            assert time.monotonic() < deadline, f"never true: {script}; errors: {self.errors}"

    def press(self, key):
        codes = {"Tab": 9, "Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": codes[key], **text})

    def prefer(self, **features):
        """What the reader's system prefers: color_scheme="dark", reduced_motion="reduce"."""
        named = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self._call("Emulation.setEmulatedMedia", {"features": named})

    def resize(self, width, height):
        self._call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

    def accessible(self):
        """(role, name) of every node of the accessibility tree that is not ignored."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        shown = (node for node in nodes if not node["ignored"])
        return [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in shown]

    def screenshot(self, path, *, whole=False):
        answer = self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))

    def close(self):
        self._stack.close()
        self._process.terminate()
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stderr.close()
        self._folder.cleanup()
