# SPDX-License-Identifier: MIT
"""A server without descriptors left: it stops listening for a while, says so, and takes the waiting clients later."""

import json

import pytest

SOURCE = """
    import errno, json, resource, socket, sys, time
    from asyncio import constants, trsock

    DELAY = 0.3
    constants.ACCEPT_RETRY_DELAY = DELAY
    CLIENTS = 2
    result = {"messages": [], "errors": [], "sockets": [], "made": 0, "attempts": 0}

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            result["made"] += 1
            transport.close()
            if result["made"] == CLIENTS:
                loop.stop()

    def report(loop, context):
        result["messages"].append(context["message"])
        result["errors"].append(context["exception"].errno)
        result["sockets"].append(type(context["socket"]) is trsock.TransportSocket)
        result["keys"] = sorted(context)
        if len(result["messages"]) == 1:
            result["start"] = loop.time()
            loop.call_later(DELAY / 2, give_back)

    def give_back():
        result["made_while_short"] = result["made"]
        for sock in hoard:
            sock.close()

    loop = new_loop()
    loop.set_exception_handler(report)
    server = loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0, backlog=1))
    clients = [socket.socket() for _ in range(CLIENTS)]
    hoard = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    while True:
        try:
            hoard.append(socket.socket())
        except OSError as error:
            assert error.errno == errno.EMFILE
            break
    for client in clients:
        client.setblocking(False)
        client.connect_ex(server.sockets[0].getsockname())
    cpu = time.process_time()
    loop.run_forever()
    result["cpu"] = time.process_time() - cpu
    result["elapsed"] = loop.time() - result.pop("start")
    server.close()
    for client in clients:
        client.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    print(json.dumps(result))
"""


def test_accept_without_descriptors_backs_off(run_script):
    result = json.loads(run_script(SOURCE).stdout)
    assert set(result["messages"]) == {"socket.accept() out of system resource"}
    assert set(result["errors"]) == {24}
    assert all(result["sockets"])
    assert result["keys"] == ["exception", "message", "socket"]
    assert result["made_while_short"] == 0
    assert result["made"] == 2
    assert 0.28 <= result["elapsed"] < 5
    # One report, or as many as asyncio tries to accept at once: no spinning on a listener that stays readable.
    assert 1 <= len(result["messages"]) <= 2
    assert result["cpu"] < 0.15


FLOOD_SOURCE = """
    import errno, json, os, resource, socket, subprocess, sys
    from asyncio import constants
    constants.ACCEPT_RETRY_DELAY = 0.02
    CONNECTIONS = 10_000
    CLIENT = '''if True:
        import resource, socket, struct, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        address = ("127.0.0.1", int(sys.argv[1]))
        for wave in range(CONNECTIONS // 500):
            clients = [socket.socket() for _ in range(500)]
            for number, client in enumerate(clients):
                client.setblocking(False)
                client.connect_ex(address)
                if number % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for client in clients:
                client.close()
    '''.replace("CONNECTIONS", str(CONNECTIONS))

    def open_fds():
        return len(os.listdir("/proc/self/fd"))

    made = lost = 0
    reports = set()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            global made
            made += 1
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)
        def connection_lost(self, exc):
            global lost
            lost += 1

    def report(loop, context):
        reports.add((context["message"], type(context["exception"]).__name__, context["exception"].errno))

    async def echoes(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"still there?")
        await reader.readexactly(12)
        writer.close()
        await writer.wait_closed()

    async def echoes_when_there_are_descriptors(address):
        while True:
            try:
                return await echoes(address)
            except OSError as error:
                assert error.errno == errno.EMFILE
                await asyncio.sleep(0.05)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
        address = server.sockets[0].getsockname()
        await echoes(address)
        held = [socket.create_connection(address) for _ in range(40)]  # and 40 in the server
        while made < 1 + len(held):
            await asyncio.sleep(0.01)
        before = open_fds()
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        client = subprocess.Popen([sys.executable, "-ISc", CLIENT, str(address[1])])
        while client.poll() is None:
            await asyncio.sleep(0.01)
        await echoes_when_there_are_descriptors(address)  # behind all that still wait to be accepted
        while made > lost + len(held):
            await asyncio.sleep(0.01)
        after = open_fds()
        for _ in range(20):
            await echoes(address)
        for sock in held:
            sock.close()
        server.close()
        await server.wait_closed()
        return before, after

    loop = new_loop()
    loop.set_exception_handler(report)
    before, after = loop.run_until_complete(asyncio.wait_for(main(), 25))
    loop.close()
    print(json.dumps([before, after, made, lost, sorted(reports)]))
"""


def test_flood_at_the_limit_of_descriptors_is_survived(run_script):
    """Ten thousand connections, opened and dropped: the server says what asyncio says, loses nothing and goes on."""
    before, after, made, lost, reports = json.loads(run_script(FLOOD_SOURCE).stdout)
    assert after <= before
    assert made == lost
    assert made > 1000
    assert reports == [["socket.accept() out of system resource", "OSError", 24]]


CLOSED_SOURCE = """
    import resource, socket
    from asyncio import constants
    constants.ACCEPT_RETRY_DELAY = 0.05
    loop = new_loop()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=1))
    address = server.sockets[0].getsockname()
    client = socket.socket()
    client.setblocking(False)
    hoard = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            hoard.append(socket.socket())
    except OSError:
        pass
    client.connect_ex(address)

    reports = set()
    def report(loop, context):
        reports.add(context["message"])
        if server.is_serving():
            server.close()
            loop.call_later(0.15, loop.stop)

    loop.set_exception_handler(report)
    loop.run_forever()
    for sock in hoard:
        sock.close()
    print(sorted(reports))
"""


@pytest.mark.cxxloop_only("asyncio tries to listen on the closed socket and reports that it cannot")
def test_server_closed_while_backing_off(run_script):
    assert run_script(CLOSED_SOURCE).stdout == "['socket.accept() out of system resource']\n"


IDLE_SOURCE = """
    import resource, socket

    class Protocol(asyncio.Protocol):
        made = 0
        def connection_made(self, transport):
            Protocol.made += 1
            if Protocol.made == 100:
                loop.stop()

    loop = new_loop()
    server = loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0, backlog=128))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(100)]
    loop.run_forever()

    def switches():
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw

    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    before = switches()
    loop.call_later(0.5, loop.stop)
    loop.run_forever()
    print(switches() - before)
"""


def test_idle_connections_cause_no_wakeups(run_script):
    assert int(run_script(IDLE_SOURCE).stdout) <= 3
