# SPDX-License-Identifier: MIT
"""SSH through asyncssh, server and client in one loop: commands, files, forwarded ports."""

import asyncio
import contextlib

import pytest
from stories import outcome

asyncssh = pytest.importorskip("asyncssh")

BIG = 3 << 20


async def handle_process(process):
    """The commands of the server."""
    match process.command.split():
        case ["cat"]:
            while data := await process.stdin.read(1 << 16):
                process.stdout.write(data)
                await process.stdout.drain()
            process.exit(0)
        case ["fail", code]:
            process.stderr.write(b"failed")
            process.exit(int(code))
        case ["system", *words]:
            # A real child process behind the channel: its pipes are redirected to SSH.
            child = await asyncio.create_subprocess_exec(*words, stdin=-1, stdout=-1, stderr=-1)
            await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
            status = await child.wait()
            await process.stdout.drain()
            process.exit(status)
        case ["hang"]:
            await process.stdin.read()
            process.exit(0)


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return username != "nobody"

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return password == "correct"

    def connection_requested(self, *where):
        return True


@pytest.fixture(scope="module")
def key():
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def play(same_story, key, tmp_path):
    """Plays a scene with a connection; both loops tell the same story."""

    def play(scene, *, timeout=15):
        @contextlib.asynccontextmanager
        async def connected():
            server = await asyncssh.listen(
                "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=handle_process,
                sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(tmp_path).encode()), encoding=None,
            )  # fmt: skip
            options = {"known_hosts": None, "config": None, "client_keys": None, "username": "user", "password": "correct"}
            async with server, asyncssh.connect("127.0.0.1", server.get_port(), **options) as connection:
                yield connection

        async def connected_scene():
            async with connected() as connection:
                return await scene(connection)

        return same_story(connected_scene, timeout=timeout)

    return play


def test_commands_at_once(play):
    async def scene(connection):
        async def cat(number):
            result = await connection.run("cat", input=b"%d" % number * 1000, encoding=None)
            return result.exit_status, result.stdout

        return await asyncio.gather(*(cat(n) for n in range(20)))

    assert play(scene) == [(0, b"%d" % n * 1000) for n in range(20)]


def test_big_streams_both_ways(play):
    payload = bytes(range(256)) * (BIG // 256)

    async def scene(connection):
        async with connection.create_process("cat", encoding=None) as process:

            async def send():
                for start in range(0, BIG, 1 << 16):
                    process.stdin.write(payload[start : start + (1 << 16)])
                    await process.stdin.drain()
                process.stdin.write_eof()

            _, back = await asyncio.gather(send(), process.stdout.read())
            assert back == payload
            return (await process.wait()).exit_status

    assert play(scene) == 0


def test_failing_command(play):
    async def scene(connection):
        result = await connection.run("fail 7", encoding=None)
        return result.exit_status, result.stderr

    assert play(scene) == (7, b"failed")


@pytest.mark.filterwarnings("ignore:coroutine 'Queue.join'")  # asyncssh's, when a redirection ends with its channel
def test_child_process_behind_the_channel(play):
    async def scene(connection):
        result = await connection.run("system tr a-z A-Z", input=b"loud\n" * 10_000, encoding=None)
        return result.exit_status, result.stdout

    assert play(scene) == (0, b"LOUD\n" * 10_000)


def test_files(play, tmp_path):
    local = tmp_path / "local"
    local.write_bytes(bytes(range(256)) * (BIG // 256))

    async def scene(connection):
        async with connection.start_sftp_client() as sftp:
            await sftp.put(str(local), "/remote")
            await sftp.mkdir("/folder")
            await sftp.rename("/remote", "/folder/remote")
            story = [sorted(await sftp.listdir("/folder")), (await sftp.stat("/folder/remote")).size]
            await sftp.get("/folder/remote", str(tmp_path / "back"))
            async with sftp.open("/folder/remote", "rb") as file:
                await file.seek(256)
                story.append(await file.read(4))
            story.append(await outcome(sftp.stat("/nowhere")))
            await sftp.rmtree("/folder")
        assert (tmp_path / "back").read_bytes() == local.read_bytes()
        return story

    assert play(scene) == [[".", "..", "remote"], BIG, b"\0\1\2\3", "SFTPNoSuchFile"]


def test_forwarded_port(play):
    async def scene(connection):
        async def shout(reader, writer):
            writer.write((await reader.read()).upper())
            writer.close()

        async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
            listener = await connection.forward_local_port("127.0.0.1", 0, *server.sockets[0].getsockname())

            async def whisper(number):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
                writer.write(b"psst %d" % number)
                writer.write_eof()
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
                return answer

            answers = await asyncio.gather(*(whisper(n) for n in range(10)))
            listener.close()
            await listener.wait_closed()
            return answers

    assert play(scene) == [b"PSST %d" % n for n in range(10)]


def test_cancelled_command_and_lost_connection(play):
    async def scene(connection):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.run("hang"), 0.05)
        story = [(await connection.run("cat", input=b"still here", encoding=None)).stdout]
        hanging = await connection.create_process("hang")
        connection.abort()
        return [*story, (await hanging.wait()).exit_status, await outcome(connection.run("cat"))]

    assert play(scene) == [b"still here", None, "ChannelOpenError"]


def test_wrong_password(same_story, key):
    async def scene():
        async with await asyncssh.listen("127.0.0.1", 0, server_factory=Server, server_host_keys=[key]) as server:
            return await outcome(
                asyncssh.connect(
                    "127.0.0.1", server.get_port(), known_hosts=None, config=None, client_keys=None, username="user",
                    password="wrong",
                )
            )  # fmt: skip

    assert same_story(scene) == "PermissionDenied"
