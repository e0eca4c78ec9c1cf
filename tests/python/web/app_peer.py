# SPDX-License-Identifier: MIT
"""Asks an App through cxxloop's own server, which calls its handlers natively, as asgi_driver.call() asks it through ASGI."""

import asyncio
import logging
import urllib.parse

from asgi_peer import Served, read_response

_logger = logging.getLogger("cxxloop.error")


class Answer:
    """As asgi_driver.Answer, without messages; framing is the server's and left out."""

    def __init__(self, response):
        self.status = response.status
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
        self.pairs = [pair for pair in pairs if pair[0] not in ("transfer-encoding", "connection")]
        self.headers = dict(self.pairs)
        self.body = response.body


class LoggingServed(Served):
    """Its errors are in the log, as Server puts them there."""

    def __init__(self, loop, app, **options):
        super().__init__(loop, app, **{"date_header": False, "server_header": None, **options})
        self.errors = self

    def append(self, error):
        _logger.error("%s", error[0], exc_info=error[1])


def head_of(target, method, headers, *, is_chunked=False):
    """The bytes of a request's head; the path of `target` is decoded."""
    path, mark, query = target.partition("?")
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    lines = [f"{method} {urllib.parse.quote(path)}{mark}{query} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in pairs]
    if is_chunked:
        lines.append("transfer-encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _turns():
    """Lets what was sent arrive by itself."""
    for _ in range(3):
        await asyncio.sleep(0)


async def call_native(app, target="/", method="GET", headers=None, *, pieces=(b"",), **options):
    """One request whose body comes in `pieces`."""
    names = {name.lower() for name, _ in (headers.items() if isinstance(headers, dict) else headers or ())}
    is_chunked = "content-length" not in names and pieces != (b"",)
    served = LoggingServed(asyncio.get_running_loop(), app, **options)
    try:
        reader, writer = await served.connect()
        writer.write(head_of(target, method, headers, is_chunked=is_chunked))
        for piece in filter(None, pieces):
            await _turns()
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            writer.write(b"0\r\n\r\n")
        answer = Answer(await read_response(reader, method=method))
        writer.close()
        await served.quiet()
        return answer
    finally:
        served.close()
