# SPDX-License-Identifier: MIT
"""Sanic: sets uvloop's policy in every worker by default."""

from typing import Any


def adopt(module: Any) -> None:
    """Let sanic.server.loop keep the policy that it finds."""
    module.try_use_uvloop = lambda: None
