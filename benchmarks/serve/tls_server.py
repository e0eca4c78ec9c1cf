# SPDX-License-Identifier: MIT
"""A TLS echo server on any event loop. Prints {"port": N} and serves until its stdin closes."""

import argparse
import asyncio
import importlib
import json
import os
import ssl

HOST = "127.0.0.1"
BACKLOG = 1024


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(certificate: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await loop.create_server(EchoProtocol, HOST, 0, backlog=BACKLOG, ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, os.read, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", required=True, help="module with new_event_loop()")
    parser.add_argument("--certificate", required=True, help="PEM file with key and certificates")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=importlib.import_module(arguments.loop).new_event_loop) as runner:
        runner.run(serve(arguments.certificate))


if __name__ == "__main__":
    main()
