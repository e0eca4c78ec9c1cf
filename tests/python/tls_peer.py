# SPDX-License-Identifier: MIT
"""A TLS client that decides about every byte it sends, and servers of the loop under test for it to talk to."""

import asyncio
import contextlib
import socket
import ssl

import trustme
from recorder import LOOPBACK, Recorder


def make_contexts():
    """(of a server, of a client that trusts it)"""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost", LOOPBACK).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def make_server_context(context_type=ssl.SSLContext):
    context = context_type(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", LOOPBACK).configure_cert(context)
    return context


def write_certificate(folder):
    """The path of a server's key and certificate, for a script."""
    path = folder / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def make_client_context(version=None):
    """Of a client that trusts everybody; `version`: the only one it speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Peer:
    """The client's end of a connection, which decides about every byte it sends."""

    def __init__(self, sock, context):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    async def _until_done(self, step):
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(self.sock, self.outgoing.read())
                received = await loop.sock_recv(self.sock, 65536)
                if not received:
                    raise EOFError from None
                self.incoming.write(received)
            else:
                await loop.sock_sendall(self.sock, self.outgoing.read())
                return result

    async def handshake(self):
        await self._until_done(self.tls.do_handshake)

    async def read(self, count):
        received = b""
        while len(received) < count:
            chunk = await self._until_done(lambda: self.tls.read(65536))
            if not chunk:
                break
            received += chunk
        return received

    def encrypted(self, *messages):
        for message in messages:
            self.tls.write(message)
        return self.outgoing.read()

    def hello(self):
        """The first record of a handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def close_notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.sock, data)


@contextlib.asynccontextmanager
async def connecting(server_context, client_context, served=None, **options):
    """(served protocol, peer) of a connection to a TLS server of the loop under test, before the handshake."""
    loop = asyncio.get_running_loop()
    served = Recorder() if served is None else served
    server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context, **options)
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        yield served, Peer(sock, client_context)
    server.close()
    await asyncio.wait_for(server.wait_closed(), 5)


@contextlib.asynccontextmanager
async def connected(server_context, client_context, served=None, **options):
    """The same after the handshake; what is still open at the end is aborted."""
    async with connecting(server_context, client_context, served, **options) as (served, peer):
        await peer.handshake()
        await served.until_event("connection_made")
        yield served, peer
        if not served.is_lost:
            served.transport.abort()
            await served.until_event("connection_lost")
