# SPDX-License-Identifier: MIT
"""The interpreter ends while a program still holds loops, handles and connections.

The collector's last look takes modules and types apart in any order: what lives longer than the module must not use what
the module kept. Freed memory mostly looks as before, so the step asan of ci/test is what these tests are for.
"""

import textwrap

import pytest

# What keeps `kept` until the modules have been emptied.
HOLDERS = {
    "cycle": """
        class Box: pass
        box = Box()
        box.itself, box.kept = box, kept
        del box, kept
    """,
    "old cycle in sys.modules": """
        import gc, sys
        class Box: pass
        box = sys.modules["kept"] = Box()
        box.itself, box.kept = box, kept
        gc.collect()
        del box, kept
    """,
}

HANDLES = """
    loop = new_loop()
    kept = [loop.call_soon(int), loop.call_later(100, int), loop.call_soon_threadsafe(int)]
    loop.run_until_complete(asyncio.sleep(0))
    kept += [loop.call_soon(int, kept), loop.call_later(100, int, kept), loop.call_soon_threadsafe(int, kept)]
    loop.close()
"""

OPEN_LOOP = """
    import socket
    loop = new_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    loop.add_reader(left, int)
    loop.add_writer(left, int)
    loop.call_later(100, int)
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(int)
    loop.call_soon_threadsafe(int)
    kept = [loop, left, right]
"""

WAITING_SOCKET_CALL = """
    import socket
    loop = new_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    task = loop.create_task(loop.sock_recv(left, 10))
    loop.run_until_complete(asyncio.sleep(0))
    kept = [loop, left, right, task]
"""

TRANSPORTS = """
    import os, socket
    kept = []

    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda *streams: kept.append(streams), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        kept.extend([server, await asyncio.open_connection(*address)])
        while len(kept) < 3:
            await asyncio.sleep(0)
        kept.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
        read, write = os.pipe()
        kept.append(await loop.connect_read_pipe(asyncio.Protocol, open(read, "rb", 0)))
        kept.append(await loop.connect_write_pipe(asyncio.Protocol, open(write, "wb", 0)))

    loop = new_loop()
    kept.append(loop)
    loop.run_until_complete(main())
"""

TLS_CONNECTIONS = """
    from tls_peer import make_client_context, make_server_context
    kept = []

    async def main():
        def accepted(*streams):
            kept.append(streams)
        server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=make_server_context())
        address = server.sockets[0].getsockname()
        for _ in range(3):
            kept.append(await asyncio.open_connection(*address, ssl=make_client_context()))
        while len(kept) < 6:
            await asyncio.sleep(0)

    loop = new_loop()
    loop.run_until_complete(main())
"""

CLOSED_LOOP = "    loop.close()\n"
SCENES = {
    "handles": HANDLES,
    "an open loop": OPEN_LOOP,
    "a waiting socket call": WAITING_SOCKET_CALL,
    "transports": TRANSPORTS,
    "transports of a closed loop": TRANSPORTS + CLOSED_LOOP,
    "TLS connections": TLS_CONNECTIONS,
    "TLS connections of a closed loop": TLS_CONNECTIONS + CLOSED_LOOP,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("scene", SCENES)
def test_the_process_ends_well(run_script, scene, holder):
    run_script(textwrap.dedent(SCENES[scene]) + textwrap.dedent(HOLDERS[holder]))
