# SPDX-License-Identifier: MIT
"""What the tasks of a loop wait for, for a person to read. Those that wait at the same place are shown together."""

import asyncio
import os
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

_GROUPS_MAX = 200
_STACK_MAX = 16
_NAMES_MAX = 5


def describe(loop: asyncio.AbstractEventLoop, left_out: Collection[asyncio.Task[Any] | None] = ()) -> dict[str, Any]:
    """Describe the tasks of a loop; in its thread, or in another one while the loop may be stuck.

    Args:
        loop: an open one.
        left_out: tasks that are not described.

    Returns:
        As JSON: {"pid", "tasks": how many, "groups": [{"count", "coroutine", "stack": ["function (file:line)", ...], outermost first,
        "names": of the first few}]}, the largest groups first, at most 200 of them.
    """
    tasks = [task for task in asyncio.all_tasks(loop) if not task.done() and task not in left_out]
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for task in tasks:
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
        stack = list(_stack(coroutine))
        group = groups.setdefault((name, *stack), {"count": 0, "coroutine": name, "stack": stack, "names": []})
        group["count"] += 1
        if len(group["names"]) < _NAMES_MAX:
            group["names"].append(task.get_name())
    largest = sorted(groups.values(), key=lambda group: (-group["count"], group["coroutine"]))[:_GROUPS_MAX]
    return {"pid": os.getpid(), "tasks": len(tasks), "groups": largest}


def _stack(awaited: Any) -> Iterator[str]:
    # task.get_stack() ends at the task's own coroutine: what that awaits is not in its frame.
    for _ in range(_STACK_MAX):
        frame = _first_of(awaited, "cr_frame", "gi_frame", "ag_frame")
        if not isinstance(frame, FrameType):
            return
        code = frame.f_code
        yield f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
        awaited = _first_of(awaited, "cr_await", "gi_yieldfrom", "ag_await")


def _first_of(thing: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(thing, name, None)) is not None), None)
