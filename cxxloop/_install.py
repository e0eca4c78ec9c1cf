# SPDX-License-Identifier: MIT
"""install() and uninstall(): make every event loop of the process a cxxloop one, and take it back."""

import asyncio
import sys
import warnings
from asyncio import events
from collections.abc import Callable
from typing import Any

_events: Any = events  # typeshed does not know its private variable

# What uninstall() has to do. None exactly when cxxloop is not installed.
_undo: Callable[[], None] | None = None


def install() -> None:
    """Make asyncio's new event loops cxxloop ones. Deprecated: cxxloop.run() says the same where it matters.

    Up to Python 3.15 this sets an event loop policy, from 3.16 on it replaces asyncio.new_event_loop(). A second call
    changes nothing unless the policy was reset in between; loops that exist already stay as they are. Warns with DeprecationWarning.
    """
    warnings.warn(
        "cxxloop.install() is deprecated in favor of cxxloop.run()",
        DeprecationWarning,
        stacklevel=2,
    )
    activate()


def uninstall() -> None:
    """Restore what install() replaced. Whatever was set over it since then stays. Without install() nothing happens."""
    global _undo
    undo, _undo = _undo, None
    if undo is not None:
        undo()


def activate() -> None:
    """install() without the warning."""
    global _undo
    if _undo is None or _policy_was_reset():
        _undo = _replace_functions() if sys.version_info >= (3, 16) else _replace_policy()


def _policy_was_reset() -> bool:
    # set_event_loop_policy(None) asks for the default policy, and would get asyncio's.
    return sys.version_info < (3, 16) and _current_policy() is None


def _current_policy() -> Any:
    # The variable, not get_event_loop_policy(): that would create a default policy, and it warns since 3.14.
    return _events._event_loop_policy


def _replace_policy() -> Callable[[], None]:
    from ._policy import Policy

    previous = _current_policy()
    set_policy = getattr(events, "_set_event_loop_policy", None) or events.set_event_loop_policy
    ours = Policy()
    set_policy(ours)

    def undo() -> None:
        if _current_policy() is ours:
            set_policy(previous)

    return undo


def _replace_functions() -> Callable[[], None]:
    from ._runner import new_event_loop

    modules: tuple[Any, ...] = (asyncio, events)  # else mypy takes their functions for constants
    replaced = [(module, module.new_event_loop) for module in modules]
    for module in modules:
        module.new_event_loop = new_event_loop

    def undo() -> None:
        for module, previous in replaced:
            if module.new_event_loop is new_event_loop:
                module.new_event_loop = previous

    return undo
