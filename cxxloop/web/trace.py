# SPDX-License-Identifier: MIT
"""At the log level "trace" every ASGI message is logged, with uvicorn's texts and without the bodies."""

import itertools
import logging

from .application import Application, Message, Receive, Scope, Send
from .logging import TRACE_LOG_LEVEL

_logger = logging.getLogger("cxxloop.asgi")


def _shortened(message: Message) -> Message:
    shortened = dict(message)
    for key, unit in (("body", "bytes"), ("bytes", "bytes"), ("text", "chars")):
        if message.get(key) is not None:
            shortened[key] = f"<{len(message[key])} {unit}>"
    if message.get("headers") is not None:
        shortened["headers"] = "<...>"
    return shortened


class MessageLogger:
    """Logs what an application receives and sends."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = next(self._numbers)
        client = scope.get("client")
        prefix = f"{client[0]}:{client[1]} - ASGI [{number}]" if client else f"ASGI [{number}]"

        async def logged_receive() -> Message:
            message = await receive()
            _logger.log(TRACE_LOG_LEVEL, "%s Receive %s", prefix, _shortened(message))
            return message

        async def logged_send(message: Message) -> None:
            _logger.log(TRACE_LOG_LEVEL, "%s Send %s", prefix, _shortened(message))
            await send(message)

        _logger.log(TRACE_LOG_LEVEL, "%s Started scope=%s", prefix, _shortened(scope))
        try:
            await self._application(scope, logged_receive, logged_send)
        except BaseException:
            _logger.log(TRACE_LOG_LEVEL, "%s Raised exception", prefix)
            raise
        _logger.log(TRACE_LOG_LEVEL, "%s Completed", prefix)
