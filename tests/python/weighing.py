# SPDX-License-Identifier: MIT
"""For scripts: what their process weighs, and a TLS echo server with clients that move step by step, to weigh in between."""

import asyncio
import gc
import os
import socket
import ssl
import traceback


def resident_kib():
    gc.collect()  # clears Python's freelists, too
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def make_contexts(certificate):
    """(of a server, of a client that trusts everybody)"""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Clients:
    """The clients of `listener`: a child process that runs the generator `play(address)`, one yield further each step()."""

    def __init__(self, play):
        self.listener = socket.create_server(("127.0.0.1", 0))
        go, self._go = os.pipe()
        self._done, done = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            steps = play(self.listener.getsockname())
            for end in (self.listener.detach(), self._go, self._done):  # so that the end of the server ends us
                os.close(end)
            _take_steps(steps, go, done)
        os.close(go)
        os.close(done)

    async def step(self):
        os.write(self._go, b"g")
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._done, readable.set_result, None)
        await readable
        loop.remove_reader(self._done)
        if not os.read(self._done, 1):
            raise EOFError("the clients are gone")

    def end(self):
        os.close(self._go)
        os.waitpid(self._pid, 0)


def _take_steps(steps, go, done):
    try:
        while os.read(go, 1):
            next(steps)
            os.write(done, b"d")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
