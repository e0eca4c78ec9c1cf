# SPDX-License-Identifier: MIT
"""PostgreSQL through asyncpg, a protocol on the loop's transports: the same work on both loops."""

import asyncio
import io
import ssl

import pytest
from servers import PostgreSQL
from stories import outcome

asyncpg = pytest.importorskip("asyncpg")

BIG = 20 << 20
ROWS = 20_000
SLEEP = "select pg_sleep(60)"
SLEEPERS = "select count(*) from pg_stat_activity where query = $1 and state = 'active'"


def settings(postgres, way="tcp"):
    """The arguments of asyncpg.connect()."""
    context = ssl.create_default_context(cafile=str(postgres.folder / "authority")) if way == "tls" else False
    return {
        "host": postgres.host(way),
        "port": postgres.address[1],
        "user": "postgres",
        "database": "postgres",
        "ssl": context,
    }


@pytest.fixture
def on_connection(same_story, postgres):
    """Plays a scene that gets a connection of its own."""

    def on_connection(scene, way="tcp"):
        async def connected():
            connection = await asyncpg.connect(**settings(postgres, way))
            try:
                return await scene(connection)
            finally:
                await connection.close()

        return same_story(connected)

    return on_connection


@pytest.mark.parametrize("way", PostgreSQL.ways)
def test_concurrent_queries_of_a_pool(same_story, postgres, way):
    async def scene():
        async with asyncpg.create_pool(**settings(postgres, way), min_size=1, max_size=5) as pool:

            async def query(number):
                row = await pool.fetchrow("select $1::int + 1, repeat($2, $1), inet_client_port() is null", number, "ab")
                return tuple(row)

            return await asyncio.gather(*(query(n) for n in range(200)))

    assert same_story(scene) == [(n + 1, "ab" * n, way == "unix") for n in range(200)]


@pytest.mark.parametrize("way", PostgreSQL.ways)
def test_big_values_both_ways(on_connection, way):
    payload = bytes(range(256)) * (BIG // 256)

    async def scene(connection):
        size, back = await connection.fetchrow("select length($1::bytea), $1::bytea", payload)
        assert back == payload
        return size

    assert on_connection(scene, way) == BIG


def test_tls_is_in_use(on_connection):
    async def scene(connection):
        return await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")

    assert on_connection(scene, "tls") is True
    assert on_connection(scene, "tcp") is False


def test_transactions(on_connection):
    async def scene(connection):
        await connection.execute("create temp table accounts (name text primary key, balance int)")

        async def state():
            return [tuple(row) for row in await connection.fetch("select * from accounts order by name")]

        story = []
        async with connection.transaction():
            await connection.executemany("insert into accounts values ($1, $2)", [("a", 10), ("b", 20)])
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("update accounts set balance = 0")
                await connection.execute("insert into accounts values ('a', 1)")
        story.append(await state())
        async with connection.transaction():
            await connection.execute("update accounts set balance = balance + 1")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("delete from accounts")
                    raise ZeroDivisionError
        story.append(await state())
        return story

    assert on_connection(scene) == [[("a", 10), ("b", 20)], [("a", 11), ("b", 21)]]


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_copy_in_and_out(on_connection, way):
    async def scene(connection):
        await connection.execute("create temp table copied (number int, text text)")
        records = [(n, f"text {n}") for n in range(ROWS)]
        story = [await connection.copy_records_to_table("copied", records=records)]
        out = io.BytesIO()

        async def write(data):
            out.write(data)
            if out.tell() % 7 == 0:
                await asyncio.sleep(0.001)  # a slow reader: the transport is paused meanwhile

        story.append(await connection.copy_from_query("select * from copied order by number", output=write))
        assert out.getvalue() == b"".join(b"%d\ttext %d\n" % (n, n) for n in range(ROWS))
        out.seek(0)
        story.append(await connection.copy_to_table("copied", source=out))
        return [*story, await connection.fetchval("select sum(number) from copied")]

    assert on_connection(scene, way) == [f"COPY {ROWS}"] * 3 + [ROWS * (ROWS - 1)]


def test_cursor(on_connection):
    async def scene(connection):
        async with connection.transaction():
            cursor = connection.cursor("select g from generate_series(1, $1) g", ROWS, prefetch=500)
            return [row[0] async for row in cursor]

    assert on_connection(scene) == list(range(1, ROWS + 1))


def test_listen_and_notify(same_story, postgres):
    async def scene():
        listener = await asyncpg.connect(**settings(postgres))
        speaker = await asyncpg.connect(**settings(postgres))
        heard, done = [], asyncio.Event()

        def hear(connection, pid, channel, payload):
            heard.append((channel, payload))
            if payload == "end":
                done.set()

        await listener.add_listener("news", hear)
        for number in range(100):
            await speaker.execute(f"notify news, '{number}'")
        async with speaker.transaction():
            for number in range(100):
                await speaker.execute("select pg_notify('news', $1)", f"in one {number}")
        await speaker.execute("notify news, 'end'")
        await done.wait()
        await listener.remove_listener("news", hear)
        await asyncio.gather(listener.close(), speaker.close())
        return heard

    words = [*map(str, range(100)), *(f"in one {n}" for n in range(100)), "end"]
    assert same_story(scene) == [("news", word) for word in words]


def test_cancelled_queries_end_on_the_server_too(same_story, postgres):
    async def scene():
        async with asyncpg.create_pool(**settings(postgres), min_size=4, max_size=4) as pool:
            story = []
            async with pool.acquire() as connection:
                story.append(await outcome(connection.execute(SLEEP, timeout=0.05)))
                task = asyncio.ensure_future(connection.execute(SLEEP))
                while not await pool.fetchval(SLEEPERS, SLEEP):
                    pass
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                story.append(await connection.fetchval("select 'the connection still works'"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.gather(*(pool.execute(SLEEP) for _ in range(3)))
            while await pool.fetchval(SLEEPERS, SLEEP):
                pass
            return story

    assert same_story(scene) == ["TimeoutError", "the connection still works"]


def test_killed_connection(same_story, postgres):
    async def scene():
        victim = await asyncpg.connect(**settings(postgres))
        killer = await asyncpg.connect(**settings(postgres))
        ended = asyncio.Event()
        victim.add_termination_listener(lambda connection: ended.set())
        sleeping = asyncio.ensure_future(outcome(victim.execute(SLEEP)))
        while not await killer.fetchval(SLEEPERS, SLEEP):
            pass
        await killer.execute("select pg_terminate_backend($1)", victim.get_server_pid())
        story = [await sleeping]
        await ended.wait()
        story += [victim.is_closed(), await outcome(victim.execute("select 1"))]
        await killer.close()
        return story

    assert same_story(scene) == ["ConnectionDoesNotExistError", True, "InterfaceError"]


def test_restart_of_the_server(same_story, postgres):
    async def scene():
        async with asyncpg.create_pool(**settings(postgres), min_size=0, max_size=3) as pool:
            sleeping = [asyncio.ensure_future(outcome(pool.execute(SLEEP))) for _ in range(2)]
            while await pool.fetchval(SLEEPERS, SLEEP) < 2:
                pass
            await asyncio.to_thread(postgres.stop)
            story = await asyncio.gather(*sleeping)
            try:
                await asyncpg.connect(**settings(postgres))
            except ConnectionRefusedError:
                story.append("refused")
            postgres.start()
            return [*story, *await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(20)))]

    assert same_story(scene) == [*["ConnectionDoesNotExistError"] * 2, "refused", *range(20)]
