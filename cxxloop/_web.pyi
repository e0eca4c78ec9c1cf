# SPDX-License-Identifier: MIT
import asyncio
from collections.abc import Callable, Mapping
from typing import Any, final

# Of the memory at options["metrics_fd"], METRICS_BYTES long, words of 64 bits: the counters, of which those from FIRST_GAUGE on go up
# and down; the number of tasks; two histograms, of latency and of loop lag, each a sum in ns and its buckets, one more than bounds.
COUNTER_NAMES: tuple[str, ...]
FIRST_GAUGE: int
BUCKET_BOUNDS_NS: tuple[int, ...]
METRICS_BYTES: int

class ClientDisconnected(OSError): ...

@final
class HandlerTable:
    def __new__(
        cls,
        *,
        request_type: type,
        response_type: type,
        json_type: type,
        http_error: type[Exception],
        client_disconnected: type[Exception],
        response_of: Callable[[Any], Any],
        state: dict[str, Any],
        dumps: Callable[[Any], bytes | str],
        loads: Callable[[bytes], Any],
        body_bytes_max: int,
    ) -> HandlerTable: ...
    def add(self, method: str, path: str, handler: Callable[..., Any], *, is_async: bool, is_native: bool) -> None: ...
    def add_mount(self) -> None: ...
    def find(self, method: str, path: str) -> tuple[Any, dict[str, str | int], tuple[str, ...]] | None: ...
    def set_state(self, state: dict[str, Any], /) -> None: ...

@final
class Server:
    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        app: Callable[..., Any],
        *,
        options: dict[str, Any],
        state: dict[str, Any] | None,
        on_idle: Callable[[], object],
        on_access: Callable[[Mapping[str, Any], int, int, float], object] | None,
        on_error: Callable[[str, BaseException | None], object],
    ) -> Server: ...
    @staticmethod
    def tls_library() -> str | None: ...
    def listen(self, fd: int, /) -> None: ...
    def stop_listening(self) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...
    def set_limits(self, limits: dict[str, Any], /) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def tasks(self) -> list[asyncio.Task[None]]: ...
