# SPDX-License-Identifier: MIT
"""What a build of cxxloop is made of."""

from dataclasses import dataclass

from . import _core


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What a build of cxxloop is made of.

    Attributes:
        version: cxxloop's version.
        backend: the backend new loops use.
        backends: the backends of this build.
        library: the library that the backend stands on, with its version.
        poller: the kernel interface that the library drives.
        compiler: the C++ compiler's version.
        python: the Python it was built for.
        pybind11: pybind11's version.
        assertions: True if internal assertions are checked.
    """

    version: str
    backend: str
    backends: tuple[str, ...]
    library: str
    poller: str
    compiler: str
    python: str
    pybind11: str
    assertions: bool


def build_info() -> BuildInfo:
    """Return what this build is made of."""
    return BuildInfo(**_core.build_facts())
