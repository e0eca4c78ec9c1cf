# SPDX-License-Identifier: MIT
"""App: plain handlers by path and method, as an ASGI 3 application.

    app = App()

    @app.get("/users/{id:int}")
    def user(request):
        return {"id": request.path_params["id"]}
"""

import asyncio
import contextvars
import functools
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from .application import Application, Receive, Scope, Send
from .importer import import_from_string
from .request import ClientDisconnected, Loads, Request, may_have_body
from .response import JSON, Dumps, HTTPError, Response, dumps
from .router import Params, Router

Result = Response | bytes | str | dict[str, Any] | list[Any] | None
Handler = Callable[[Request], Result | Awaitable[Result]]
Hook = Callable[[], object]
_HandlerType = TypeVar("_HandlerType", bound=Callable[..., Any])
_HookType = TypeVar("_HookType", bound=Hook)

# Threads of an application that has thread=True somewhere and does not say how many.
_THREADS = 10

_logger = logging.getLogger("cxxloop.error")


class _Route(NamedTuple):
    """What a path and a method lead to. How it is called has been found out once, when it was added."""

    handler: Callable[[Request], Any]
    is_async: bool
    in_thread: bool
    is_stream: bool


class App:
    """An ASGI 3 application of handlers.

    A handler is called with a Request and returns a Response, bytes, text, a dictionary or list (JSON), or None (204). It may be a
    coroutine function. An ordinary function runs on the loop's thread, where it must not block, or in a thread.

    Args:
        threads: ordinary handlers run in so many threads, unless they are added with thread=False; 0: on the loop's thread, unless
            they are added with thread=True.
        body_bytes_max: of a request whose route has not stream=True; longer ones are answered with 413.
        dumps: makes JSON, text or bytes, of what handlers return: json.dumps, orjson.dumps and their like.
        loads: parses the JSON of request.json().
    """

    def __init__(
        self, *, threads: int = 0, body_bytes_max: int = 16 * 1024 * 1024, dumps: Dumps = dumps, loads: Loads = json.loads
    ) -> None:
        self._state: dict[str, Any] = {}
        self._threads = threads
        self._body_bytes_max = body_bytes_max
        self._dumps = dumps
        self._loads = loads
        self._router: Router[_Route] = Router()
        self._routes: list[tuple[str, str, _Route]] = []
        self._native: Any = None  # the HandlerTable of native_handlers(); None: no native server has asked for it
        self._mounts: list[tuple[str, Application]] = []
        self._startup_hooks: list[Hook] = []
        self._shutdown_hooks: list[Hook] = []
        self._executor: Executor | None = None

    @property
    def state(self) -> dict[str, Any]:
        """A dictionary that every request has as request.state; for what startup hooks make."""
        return self._state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._state = state
        if self._native is not None:
            self._native.set_state(state)

    # --- routes ------------------------------------------------------------------------------------------------------

    def add(self, method: str, path: str, handler: Handler | str, *, thread: bool | None = None, stream: bool = False) -> None:
        """Add a handler.

        Args:
            method: "GET" answers HEAD, too, unless that has a handler of its own.
            path: see Router.add(): "/users/{id:int}", "/files/{path:path}".
            handler: called with the Request; or its import string "module:attribute", which is imported now.
            thread: run it in a thread; None: if the application has `threads`, and it is no coroutine function.
            stream: call it before the body has been read; it reads request.stream(). For coroutine functions.

        Raises:
            ValueError: the path has another form, or is taken.
            TypeError: this handler cannot be called, or not so.
            ImportFromStringError: nothing has this import string.
        """
        called = import_from_string(handler)
        name = getattr(called, "__qualname__", repr(called))
        if not callable(called):
            raise TypeError(f"a handler must be callable, not {name}")
        if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
            raise TypeError(f"{name} is a generator: return Streaming(...) of one instead")
        is_async = inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None))
        if is_async and thread:
            raise TypeError(f"{name} is a coroutine function, which runs on the loop and not in a thread")
        if stream and not is_async:
            raise TypeError(f"{name} has stream=True and is no coroutine function")
        in_thread = not is_async and (self._threads > 0 if thread is None else thread)
        added = method.upper(), path, _Route(called, is_async, in_thread, stream)
        self._router.add(*added)
        self._routes.append(added)
        if self._native is not None:
            _add_native(self._native, *added)

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",), thread: bool | None = None, stream: bool = False
    ) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of several methods; as add()."""

        def decorate(handler: _HandlerType) -> _HandlerType:
            for method in methods:
                self.add(method, path, handler, thread=thread, stream=stream)
            return handler

        return decorate

    def get(self, path: str, *, thread: bool | None = None) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of GET and HEAD; as add()."""
        return self.route(path, methods=("GET",), thread=thread)

    def post(self, path: str, *, thread: bool | None = None, stream: bool = False) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of POST; as add()."""
        return self.route(path, methods=("POST",), thread=thread, stream=stream)

    def put(self, path: str, *, thread: bool | None = None, stream: bool = False) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of PUT; as add()."""
        return self.route(path, methods=("PUT",), thread=thread, stream=stream)

    def patch(self, path: str, *, thread: bool | None = None, stream: bool = False) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of PATCH; as add()."""
        return self.route(path, methods=("PATCH",), thread=thread, stream=stream)

    def delete(self, path: str, *, thread: bool | None = None) -> Callable[[_HandlerType], _HandlerType]:
        """Decorate a handler of DELETE; as add()."""
        return self.route(path, methods=("DELETE",), thread=thread)

    def mount(self, path: str, application: Application) -> None:
        """Let an ASGI 3 application answer what is below a path and has no route; of two mounts that fit, the longer one.

        Its scope has the path in root_path. It gets WebSockets, too; the startup and shutdown of an App run with this one's.

        Args:
            path: "" or like "/static".
            application: StaticFiles, another App, or a framework's.

        Raises:
            ValueError: the path has another form, or is taken.
        """
        path = path.rstrip("/")
        if path and not path.startswith("/"):
            raise ValueError(f"a mount's path begins with '/', not {path!r}")
        if any(path == taken for taken, _ in self._mounts):
            raise ValueError(f"{path!r} is taken by another mount")
        self._mounts.append((path, application))
        self._mounts.sort(key=lambda mount: -len(mount[0]))
        if self._native is not None:
            self._native.add_mount()

    def native_handlers(self, make_table: Callable[..., Any]) -> Any:
        """Give cxxloop's own server what it needs to call the handlers itself. Called by the server.

        Args:
            make_table: makes a HandlerTable of the native server.

        Returns:
            The table, the same one for every server, which gets each route that is added later; None: every request must go through
            __call__(), because a subclass has its own.
        """
        if type(self).__call__ is not App.__call__:
            return None
        if self._native is None:
            self._native = make_table(
                request_type=Request,
                response_type=Response,
                json_type=JSON,
                http_error=HTTPError,
                client_disconnected=ClientDisconnected,
                response_of=self._response_of,
                state=self._state,
                dumps=self._dumps,
                loads=self._loads,
                body_bytes_max=self._body_bytes_max,
            )
            for added in self._routes:
                _add_native(self._native, *added)
            if self._mounts:
                self._native.add_mount()
        return self._native

    # --- start and end -----------------------------------------------------------------------------------------------

    def on_startup(self, hook: _HookType) -> _HookType:
        """Decorate a function, a coroutine function perhaps, that runs before the first request, in the order they are added."""
        self._startup_hooks.append(hook)
        return hook

    def on_shutdown(self, hook: _HookType) -> _HookType:
        """Decorate a function, a coroutine function perhaps, that runs after the last request, the last one first."""
        self._shutdown_hooks.append(hook)
        return hook

    async def startup(self) -> None:
        """Run the startup hooks of this application and of mounted ones. Called by the server's lifespan."""
        for hook in self._startup_hooks:
            await _call_hook(hook)
        for _, mounted in self._mounts:
            if isinstance(mounted, App):
                await mounted.startup()

    async def shutdown(self) -> None:
        """Run the shutdown hooks, all of them, and end the threads. Called by the server's lifespan.

        Raises:
            The first exception of a hook.
        """
        hooks: list[Hook] = [mounted.shutdown for _, mounted in self._mounts if isinstance(mounted, App)]
        errors: list[Exception] = []
        for hook in (*hooks, *reversed(self._shutdown_hooks)):
            try:
                await _call_hook(hook)
            except Exception as error:
                _logger.error("Exception in a shutdown hook", exc_info=error)
                errors.append(error)
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        if errors:
            raise errors[0]

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        for step in (self.startup, self.shutdown):
            kind = (await receive())["type"]
            try:
                await step()
            except Exception as error:
                _logger.error("Exception in a hook", exc_info=error)
                await send({"type": f"{kind}.failed", "message": f"{type(error).__name__}: {error}"})
                return
            await send({"type": f"{kind}.complete"})

    # --- requests ----------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = _path_of(scope)
            match = self._router.find(scope["method"], path)
            if match is not None and match.target is not None:
                await self._answer(match.target, path, match.params, scope, receive, send)
            elif match is not None:
                error = HTTPError(405, headers={"Allow": ", ".join(match.allowed)})
                await error.response().send(scope, receive, send)
            elif not await self._pass_on(path, scope, receive, send):
                await HTTPError(404).response().send(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif not await self._pass_on(_path_of(scope), scope, receive, send):
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before accept: the client gets a 403

    async def _answer(self, route: _Route, path: str, params: Params, scope: Scope, receive: Receive, send: Send) -> None:
        has_body = may_have_body(scope)
        request = Request(scope, receive, path, params, self.state, self._loads, None if has_body or route.is_stream else b"")
        executor = self._threads_of_handlers() if route.in_thread else None
        try:
            if has_body and not route.is_stream:
                await request.load(self._body_bytes_max)
            if executor is not None:
                call = functools.partial(contextvars.copy_context().run, route.handler, request)
                result = await asyncio.get_running_loop().run_in_executor(executor, call)
            elif route.is_async:
                result = await route.handler(request)
            else:
                result = route.handler(request)
            response = self._response_of(result)
        except HTTPError as error:
            response = error.response()
        except ClientDisconnected:
            return
        except Exception as error:
            _logger.error("Exception in the handler of %s %s", request.method, path, exc_info=error)
            response = HTTPError(500).response()
        await response.send(scope, receive, send, executor)

    def _response_of(self, result: Any) -> Response:
        if isinstance(result, Response):
            return result
        if isinstance(result, (bytes, str)):
            return Response(result)
        if isinstance(result, (dict, list)):
            return JSON(result, dumps=self._dumps)
        if result is None:
            return Response(status=204)
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(f"a handler returns a Response, bytes, str, dict, list or None, not {type(result).__name__}")

    async def _pass_on(self, path: str, scope: Scope, receive: Receive, send: Send) -> bool:
        for mount, application in self._mounts:
            if path.startswith(mount) and path[len(mount) : len(mount) + 1] in ("", "/"):
                # The path stays whole, as ASGI says; `path` is what is left of it below our own root_path.
                root_path = scope["path"][: len(scope["path"]) - len(path)] + mount
                await application({**scope, "root_path": root_path}, receive, send)
                return True
        return False

    def _threads_of_handlers(self) -> Executor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads or _THREADS, thread_name_prefix="cxxloop-handler")
        return self._executor


def _path_of(scope: Scope) -> str:
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and (path == root_path or path.startswith(root_path + "/")):
        return path[len(root_path) :]
    return path


def _add_native(table: Any, method: str, path: str, route: _Route) -> None:
    is_native = not route.in_thread and not route.is_stream
    table.add(method, path, route.handler, is_async=route.is_async, is_native=is_native)


async def _call_hook(hook: Hook) -> None:
    result = hook()
    if inspect.isawaitable(result):
        await result
