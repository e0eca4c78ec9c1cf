# SPDX-License-Identifier: MIT
"""multiprocessing: children of `spawn` and `forkserver` begin with a fresh interpreter."""

from collections.abc import Callable
from typing import Any

from ._adopt import adopt_process


class _AdoptWhenUnpickled:
    """A process that receives this adopts cxxloop, too."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return adopt_process, ()


def adopt(module: Any) -> None:
    """Put cxxloop into the dictionary that a child unpickles before anything else."""
    get_preparation_data = module.get_preparation_data

    def with_adoption(name: str) -> dict[str, Any]:
        return {**get_preparation_data(name), "cxxloop": _AdoptWhenUnpickled()}

    module.get_preparation_data = with_adoption
