# SPDX-License-Identifier: MIT
"""uvicorn and `cxxloop serve` as processes that serve the same application."""

import importlib.util
import pathlib
import re
import sys

APPLICATIONS = pathlib.Path(__file__).parent / "applications"
_PATH = pathlib.Path(__file__).parents[2] / "python" / "web" / "program.py"
_SPEC = importlib.util.spec_from_file_location("served_program", _PATH)
program = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(program)

COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "--http", "httptools", "--ws", "websockets", "--loop", "asyncio"],
    "cxxloop": ["-m", "cxxloop", "serve"],
}


class ServerProcess(program.Program):
    """One of the two; what the tests ask it is in scenes.py."""

    SOCKETS = ("/closing", "/echo", "/failing", "/nowhere", "/refused")
    UNAWAITED = '"POST /count HTTP/1.1" 500 Internal Server Error'

    def __init__(self, folder, name, target, *, env=None):
        super().__init__(
            folder,
            [sys.executable, *COMMANDS[name], target, "--app-dir", str(APPLICATIONS), "--port", "0"],
            env={"PYTHONHASHSEED": "0", **(env or {})},  # some frameworks list methods in the order of a set
        )

    def port(self):
        return int(self.wait_for(r"(?:running|serving) on http://127\.0\.0\.1:(\d+) ")[1])

    def accesses(self):
        """What the access log tells of responses, without the clients' ports and how often.

        uvicorn logs WebSockets elsewhere, and what a client did not wait for not at all.
        """
        found = {match[1] for line in self.lines if (match := re.search(r' - ("[A-Z]+ .*)', line))}
        elsewhere = tuple(f'"GET {path} ' for path in self.SOCKETS)
        return sorted(line for line in found if not line.startswith(elsewhere) and line != self.UNAWAITED)

    def errors(self):
        """What the log tells of errors: their lines, and of tracebacks only the last."""
        return sorted(line for line in self.lines if re.match(r"(ERROR|WARNING): |\w+(\.\w+)*(Error|Exception): ", line))
