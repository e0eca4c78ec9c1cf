# SPDX-License-Identifier: MIT
"""Memory of clients that connect to a TLS server, do not finish the handshake, and leave."""

import contextlib
import os
import resource
import socket
import ssl
import time

import pytest
from tls_peer import make_client_context, write_certificate

# CXXLOOP_HALF_OPEN=15000 asks for more; both ends need a descriptor for each (ulimit -n).
CONNECTIONS = int(os.environ.get("CXXLOOP_HALF_OPEN", "2000"))

# Nothing but a server: what weighs it must not be part of it.
SERVER_SOURCE = """
    import resource, ssl, sys

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    loop = new_loop()
    loop.run_until_complete(main())
"""


@pytest.fixture
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class ServerProcess:
    def __init__(self, process):
        self.process = process
        self.address = ("127.0.0.1", int(process.stdout.readline()))
        self.client_context = make_client_context()

    def serve(self, clients):
        for _ in range(clients):
            with self.client_context.wrap_socket(socket.create_connection(self.address)) as sock:
                sock.sendall(b"echo")
                assert sock.recv(4) == b"echo"
        self.wait_until(lambda descriptors: descriptors < 50)

    def flood(self, first_words):
        """Many connections at a time; returns how much memory the server had meanwhile, in KiB."""
        with contextlib.ExitStack() as made:
            for _ in range(CONNECTIONS):
                sock = made.enter_context(socket.create_connection(self.address))
                sock.sendall(first_words)
            self.wait_until(lambda descriptors: descriptors > CONNECTIONS)
            flooded = self.resident_kib()
        self.wait_until(lambda descriptors: descriptors < 50)
        return flooded

    def wait_until(self, is_reached):
        while not is_reached(len(os.listdir(f"/proc/{self.process.pid}/fd"))):
            time.sleep(0.02)  # another process: there is no event to wait for
        time.sleep(0.3)  # what it does with the last of them cannot be seen from here

    def settled_kib(self, expected_max):
        """Resident memory, as soon as it is as little as expected; after 5 s whatever it is."""
        deadline = time.monotonic() + 5  # A connection's memory is returned after its descriptor.
        while self.resident_kib() > expected_max and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.resident_kib()

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def hello_of(context):
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="freed memory is kept back")
@pytest.mark.cxxloop_only("asyncio keeps 256 KiB for each, and the C library keeps what was freed")
@pytest.mark.parametrize(("kind", "kib_each_max"), [("silence", 32), ("half a hello", 32), ("hello", 96)])
def test_flood_of_half_open_handshakes_leaves_no_memory_behind(script, many_descriptors, tmp_path, kind, kib_each_max):
    server = ServerProcess(script(SERVER_SOURCE, write_certificate(tmp_path)))
    hello = hello_of(server.client_context)
    first_words = {"silence": b"", "half a hello": hello[: len(hello) // 2], "hello": hello}[kind]
    server.serve(clients=50)
    start = server.resident_kib()
    flooded = server.flood(first_words)
    after = server.settled_kib(1.15 * start)
    server.flood(first_words)
    after_again = server.settled_kib(1.15 * start)
    print(f"{kind} x {CONNECTIONS}, KiB: {start=}, {flooded=}, {after=}, {after_again=}")
    assert (flooded - start) / CONNECTIONS < kib_each_max
    assert after <= 1.15 * start
    assert after_again <= 1.15 * start
