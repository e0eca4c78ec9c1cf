# SPDX-License-Identifier: MIT
"""A callback writes to a transport, then the process forks: the bytes are sent once, whatever the child does."""

import sys

import pytest

COMMON = """
import asyncio, os, socket, sys, threading

async def connect():
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    transport, protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    return transport, theirs

async def received(peer):
    def receive():
        with peer:
            return b"".join(iter(lambda: peer.recv(100_000), b""))
    return await asyncio.get_running_loop().run_in_executor(None, receive)

def fork(in_child):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        in_child()
        return
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

# As a plain callback: an exception leaves run_forever() as it is, not through a task.
def in_callback(function):
    done = asyncio.get_running_loop().create_future()
    def callback():
        function()
        done.set_result(None)
    asyncio.get_running_loop().call_soon(callback)
    return done

# A child that leaves the loop ends here.
def run(main):
    parent = os.getpid()
    loop = new_loop()
    try:
        loop.run_until_complete(main)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    loop.close()
"""


@pytest.fixture
def run_forking(run_script):
    def run_forking(source):
        result = run_script(COMMON + source, options=("-W", "ignore"))
        assert result.stderr == ""
        return result.stdout

    return run_forking


ENDS = {
    "sys.exit": "sys.exit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "os._exit": "os._exit(0)",
    "close": "transport.close(); os._exit(0)",
    "abort": "transport.abort(); os._exit(0)",
    "is_closing": "transport.is_closing(); os._exit(0)",
    "get_write_buffer_size": "transport.get_write_buffer_size(); os._exit(0)",
    "set_write_buffer_limits": "transport.set_write_buffer_limits(0); os._exit(0)",
    "repr": "repr(transport); os._exit(0)",
    "write_eof": "transport.write_eof(); os._exit(0)",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("where", ["callback", "task"])
def test_bytes_written_before_a_fork_are_sent_once(run_forking, end, where):
    if where == "task" and end in ("sys.exit", "KeyboardInterrupt") and sys.version_info >= (3, 14):
        pytest.skip("a forked child has no current task any more: an exception in one does not leave the loop")
    out = run_forking(
        f"""
async def main():
    transport, peer = await connect()
    def in_child():
        {ENDS[end]}
    def write_and_fork():
        transport.write(b"once")
        fork(in_child)
    await in_callback(write_and_fork) if {where == "callback"} else write_and_fork()
    transport.close()
    print(await received(peer))

run(main())
"""
    )
    assert out == "b'once'\n"


def test_bytes_written_before_a_fork_have_left_when_the_child_starts(run_forking):
    out = run_forking(
        """
async def main():
    transport, peer = await connect()
    def in_child():
        print(peer.recv(10), flush=True)
        os._exit(0)
    transport.write(b"early")
    fork(in_child)
    transport.close()
    print(await received(peer))

run(main())
"""
    )
    assert out == "b'early'\nb''\n"


def test_the_child_writes_behind_its_parent(run_forking):
    out = run_forking(
        """
async def main():
    transport, peer = await connect()
    def in_child():
        transport.write(b"child ")
        os._exit(0)
    transport.write(b"before ")
    fork(in_child)
    transport.write(b"after")
    transport.close()
    print(await received(peer))

run(main())
"""
    )
    assert out == "b'before child after'\n"


@pytest.mark.parametrize("act", ["close()", "abort()", "write(b'child')"])
def test_child_does_not_send_for_a_loop_of_another_thread(run_forking, act):
    out = run_forking(
        f"""
written, forked = threading.Event(), threading.Event()
made = []

async def write_slowly():
    transport, peer = await connect()
    made.append(transport)
    transport.write(b"once")
    written.set()
    forked.wait()  # the callback has not ended when the main thread forks
    transport.close()
    print((await received(peer)).replace(b"child", b""))

thread = threading.Thread(target=run, args=(write_slowly(),))
thread.start()
written.wait()

def in_child():
    made[0].{act}
    os._exit(0)

fork(in_child)
forked.set()
thread.join()
"""
    )
    assert out == "b'once'\n"


@pytest.mark.parametrize("act", ["close()", "write(b'child')"])
def test_what_waits_for_a_full_connection_is_sent_by_the_parent(run_forking, act):
    out = run_forking(
        f"""
async def main():
    transport, peer = await connect()
    size = 0
    while transport.get_write_buffer_size() == 0:
        transport.write(b"x" * 50_000)
        size += 50_000
    def in_child():
        transport.{act}
        os._exit(0)
    fork(in_child)
    transport.close()
    data = await received(peer)
    print(data == b"x" * size)

run(main())
"""
    )
    assert out == "True\n"


def test_pipe_is_written_to_once(run_forking):
    out = run_forking(
        """
async def main():
    read_end, write_end = os.pipe()
    pipe = os.fdopen(write_end, "wb", 0)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.Protocol, pipe)
    def write_and_fork():
        transport.write(b"once")
        fork(sys.exit)
    await in_callback(write_and_fork)
    print(os.read(read_end, 100))
    transport.close()

run(main())
"""
    )
    assert out == "b'once'\n"


def test_datagram_is_sent_once(run_forking):
    out = run_forking(
        """
async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=peer.getsockname()
        )
        def write_and_fork():
            transport.sendto(b"once")
            fork(sys.exit)
        await in_callback(write_and_fork)
        transport.sendto(b"end")
        print(peer.recv(10), peer.recv(10))
        transport.close()

run(main())
"""
    )
    assert out == "b'once' b'end'\n"


def test_tls_record_is_sent_once(run_forking):
    out = run_forking(
        """
from tls_peer import make_contexts

server_context, client_context = make_contexts()

async def main():
    data = asyncio.get_running_loop().create_future()
    async def serve(reader, writer):
        data.set_result(await reader.read())
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    _, writer = await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
    def write_and_fork():
        writer.write(b"once")
        fork(sys.exit)
    await in_callback(write_and_fork)
    writer.close()
    print(await data)
    server.close()

run(main())
"""
    )
    assert out == "b'once'\n"
