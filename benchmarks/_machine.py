# SPDX-License-Identifier: MIT
"""What the figures were measured on: machine, Python, and the version of every loop or its absence."""

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPILER = os.environ.get("CXX", "c++").split()
RAW = "raw"  # The echo server without a loop, net/raw_echo.cc: a contestant that no Python has to have.

# What decides how the kernel copies: with these, by one instruction that is sensitive to the alignment of both sides.
COPY_FLAGS = ("erms", "fsrm")

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
    versions: dict[str, str]  # Of the loops or servers that are present, in the order they were asked for.
    builds: dict[str, str]
    absent: dict[str, str]  # Why, by loop.


def processor(cpuinfo: str) -> str:
    """Name, family and model (a virtual machine's name alone says little), and which of COPY_FLAGS it has."""
    fields = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", cpuinfo.split("\n\n")[0], re.MULTILINE))
    details = [f"{name} {fields[field]}" for name, field in (("family", "cpu family"), ("model", "model")) if field in fields]
    flags = fields.get("flags", "").split()
    details.append(" ".join(flag for flag in COPY_FLAGS if flag in flags) or f"no {' no '.join(COPY_FLAGS)}")
    return f"{fields.get('model name', platform.machine())} ({', '.join(details)})"


def machine_line(python: str = sys.version) -> str:
    """What every table says below itself: figures of two machines must not be taken for each other."""
    name = processor(Path("/proc/cpuinfo").read_text())
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} x {name}, Python {python.split()[0]}"


def compiler_version() -> str:
    done = subprocess.run([*COMPILER, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def machine_facts() -> dict[str, Any]:
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "cpu": processor(Path("/proc/cpuinfo").read_text()),
        "cores": os.cpu_count(),
        "load_1min_at_start": os.getloadavg()[0],
    }


def gather_facts(python: str, loops: list[str]) -> Facts:
    # Where the loops that are put together for a comparison are.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "serve"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    modules = [loop for loop in loops if loop != RAW]
    probe = subprocess.run([python, "-c", PROBE, *modules], capture_output=True, text=True, timeout=60, env=environment)
    if probe.returncode:
        raise SystemExit(f"{python} cannot be asked about its loops:\n{probe.stderr}")
    answer = json.loads(probe.stdout.splitlines()[-1])
    answers = answer["loops"] | ({RAW: {"version": compiler_version()}} if RAW in loops else {})
    found = {loop: answers[loop] for loop in loops}
    return Facts(
        machine=machine_facts(),
        python=answer["python"],
        versions={name: loop["version"] for name, loop in found.items() if "version" in loop},
        builds={name: loop["build_info"] for name, loop in found.items() if loop.get("build_info")},
        absent={name: loop["absent"] for name, loop in found.items() if "absent" in loop},
    )
