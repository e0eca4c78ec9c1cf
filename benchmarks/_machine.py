# SPDX-License-Identifier: MIT
"""What the figures were measured on: machine, Python, and the version of every loop or its absence."""

import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Runs in the interpreter under test. A loop counts as present only when it can make a loop.
PROBE = """
import asyncio, importlib, importlib.metadata, json, platform, sys
loops = {}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        module.new_event_loop().close()
        if name == "asyncio":
            module.__version__ = platform.python_version()
        # A checkout that is imported in place has no metadata, but says its version.
        version = getattr(module, "__version__", None) or importlib.metadata.version(name)
        build_info = getattr(module, "build_info", dict)()
        loops[name] = {"version": version, "build_info": repr(build_info) if build_info else None}
    except Exception as error:
        loops[name] = {"absent": f"{type(error).__name__}: {error}"}
print(json.dumps({"python": sys.version, "loops": loops}))
"""


@dataclass(frozen=True)
class Facts:
    machine: dict[str, Any]
    python: str
    versions: dict[str, str]  # Of the loops that are present, in the order they were asked for.
    builds: dict[str, str]
    absent: dict[str, str]  # Why, by loop.


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def gather_facts(python: str, loops: list[str]) -> Facts:
    # Where the loops that are put together for a comparison are.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "serve"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    probe = subprocess.run([python, "-c", PROBE, *loops], capture_output=True, text=True, timeout=60, env=environment)
    if probe.returncode:
        raise SystemExit(f"{python} cannot be asked about its loops:\n{probe.stderr}")
    answer = json.loads(probe.stdout.splitlines()[-1])
    found = answer["loops"]
    return Facts(
        machine={
            "kernel": f"{platform.system()} {platform.release()}",
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "load_1min_at_start": os.getloadavg()[0],
        },
        python=answer["python"],
        versions={name: loop["version"] for name, loop in found.items() if "version" in loop},
        builds={name: loop["build_info"] for name, loop in found.items() if loop.get("build_info")},
        absent={name: loop["absent"] for name, loop in found.items() if "absent" in loop},
    )
