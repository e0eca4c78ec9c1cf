# SPDX-License-Identifier: MIT
"""What serve/web_app.py answers, by plain handlers: ordinary functions in `functions`, coroutine functions in `coroutines`."""

import asyncio
from collections.abc import Callable
from typing import Any

from cxxloop.web import App, Request, Response

from .web_app import ANSWER, BODIES, SLEEP_SECONDS, USERS
from .web_app import app as other_paths


def bytes_of(request: Request) -> Response:
    return Response(BODIES[request.path], media_type="text/plain")


def json_answer(request: Request) -> dict[str, Any]:
    return ANSWER


def user(request: Request) -> str:
    return str(request.path_params["id"])


def echo(request: Request) -> bytes:
    return request.body()


async def sleep(request: Request) -> str:
    await asyncio.sleep(SLEEP_SECONDS)
    return "slept"


def make_coroutine(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def coroutine(request: Request) -> Any:
        return handler(request)

    return coroutine


def make_app(change: Callable[[Callable[[Request], Any]], Callable[[Request], Any]]) -> App:
    app = App()
    for path in BODIES:
        app.add("GET", path, change(bytes_of))
    app.add("GET", "/json", change(json_answer))
    app.add("GET", f"{USERS}{{id:int}}", change(user))
    app.add("POST", "/echo", change(echo))
    app.add("GET", "/sleep", sleep)
    app.mount("", other_paths)
    return app


functions = make_app(lambda handler: handler)
coroutines = make_app(make_coroutine)
