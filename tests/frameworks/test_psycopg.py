# SPDX-License-Identifier: MIT
"""PostgreSQL through psycopg, which waits for libpq's socket with add_reader() and add_writer()."""

import asyncio

import pytest
from servers import PostgreSQL
from stories import outcome

psycopg = pytest.importorskip("psycopg")
psycopg_pool = pytest.importorskip("psycopg_pool")

BIG = 5 << 20
ROWS = 20_000
SLEEP = "select pg_sleep(60)"
SLEEPERS = "select count(*) from pg_stat_activity where query = %s and state = 'active'"


def conninfo(postgres, way="tcp"):
    words = {"host": postgres.host(way), "port": postgres.address[1], "user": "postgres", "dbname": "postgres"}
    words |= {"sslmode": "verify-full", "sslrootcert": postgres.folder / "authority"} if way == "tls" else {}
    words |= {"sslmode": "disable"} if way == "tcp" else {}
    return " ".join(f"{name}={value}" for name, value in words.items())


@pytest.fixture
def connect(postgres):
    async def connect(way="tcp"):
        return await psycopg.AsyncConnection.connect(conninfo(postgres, way), autocommit=True)

    return connect


@pytest.fixture
def on_connection(same_story, connect):
    """Plays a scene that gets a connection of its own."""

    def on_connection(scene, way="tcp"):
        async def connected():
            async with await connect(way) as connection:
                return await scene(connection)

        return same_story(connected)

    return on_connection


async def value(connection, query, *parameters):
    return (await (await connection.execute(query, parameters)).fetchone())[0]


async def until_asleep(connection, count):
    while await value(connection, SLEEPERS, SLEEP) != count:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("way", PostgreSQL.ways)
def test_concurrent_queries_of_a_pool(same_story, postgres, way):
    async def scene():
        async with psycopg_pool.AsyncConnectionPool(
            conninfo(postgres, way), min_size=1, max_size=5, open=False
        ) as pool:

            async def query(number):
                async with pool.connection() as connection:
                    return await value(connection, "select repeat(%s, %s)", "ab", number)

            return await asyncio.gather(*(query(n) for n in range(100)))

    assert same_story(scene) == ["ab" * n for n in range(100)]


@pytest.mark.parametrize("way", PostgreSQL.ways)
def test_big_values_both_ways(on_connection, way):
    payload = bytes(range(256)) * (BIG // 256)

    async def scene(connection):
        assert await value(connection, "select %b::bytea", payload) == payload
        return await value(connection, "select length(%b::bytea)", payload)

    assert on_connection(scene, way) == BIG


def test_transactions(on_connection):
    async def scene(connection):
        await connection.execute("create temp table accounts (name text primary key, balance int)")

        async def state():
            return await (await connection.execute("select * from accounts order by name")).fetchall()

        story = []
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany("insert into accounts values (%s, %s)", [("a", 10), ("b", 20)])
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with connection.transaction():
                await connection.execute("update accounts set balance = 0")
                await connection.execute("insert into accounts values ('a', 1)")
        story.append(await state())
        async with connection.transaction():
            await connection.execute("update accounts set balance = balance + 1")
            async with connection.transaction() as inner:
                await connection.execute("delete from accounts")
                raise psycopg.Rollback(inner)
        story.append(await state())
        return story

    assert on_connection(scene) == [[("a", 10), ("b", 20)], [("a", 11), ("b", 21)]]


def test_pipeline(on_connection):
    async def scene(connection):
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int * 2", [n]) for n in range(500)]
            return [(await cursor.fetchone())[0] for cursor in cursors]

    assert on_connection(scene) == [n * 2 for n in range(500)]


def test_copy_in_and_out(on_connection):
    async def scene(connection):
        cursor = connection.cursor()
        await cursor.execute("create temp table copied (number int, text text)")
        async with cursor.copy("copy copied from stdin") as copy:
            for number in range(ROWS):
                await copy.write_row((number, f"text {number}"))
        async with cursor.copy("copy (select * from copied order by number) to stdout") as copy:
            out = b"".join([bytes(data) async for data in copy])
        assert out == b"".join(b"%d\ttext %d\n" % (n, n) for n in range(ROWS))
        return await value(connection, "select sum(number) from copied")

    assert on_connection(scene) == ROWS * (ROWS - 1) // 2


def test_stream_and_server_side_cursor(on_connection):
    async def scene(connection):
        query = "select g from generate_series(1, %s) g"
        streamed = [row[0] async for row in connection.cursor().stream(query, [2000])]
        async with connection.transaction(), connection.cursor("named") as cursor:
            await cursor.execute(query, [2000])
            return streamed == [row[0] async for row in cursor] == list(range(1, 2001))

    assert on_connection(scene) is True


def test_listen_and_notify(same_story, connect):
    async def scene():
        async with await connect() as listener, await connect() as speaker:
            await listener.execute("listen news")

            async def hear():
                notifications = listener.notifies()
                heard = [(await anext(notifications)).payload for _ in range(200)]
                await notifications.aclose()
                return heard

            hearing = asyncio.ensure_future(hear())
            for number in range(200):
                await speaker.execute("select pg_notify('news', %s)", [str(number)])
            return await hearing

    assert same_story(scene) == [str(n) for n in range(200)]


def test_cancelled_queries_end_on_the_server_too(same_story, connect):
    async def scene():
        async with await connect() as sleeper, await connect() as watcher:
            for _ in range(3):
                task = asyncio.ensure_future(sleeper.execute(SLEEP))
                await until_asleep(watcher, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until_asleep(watcher, 0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sleeper.execute(SLEEP), 0.05)
            return await value(sleeper, "select 'the connection still works'")

    assert same_story(scene) == "the connection still works"


def test_killed_connection(same_story, connect):
    async def scene():
        async with await connect() as killer:
            victim = await connect()
            sleeping = asyncio.ensure_future(outcome(victim.execute(SLEEP)))
            await until_asleep(killer, 1)
            await killer.execute("select pg_terminate_backend(%s)", [victim.info.backend_pid])
            story = [await sleeping, victim.broken, await outcome(victim.execute("select 1"))]
            await victim.close()
            return story

    assert same_story(scene) == ["AdminShutdown", True, "OperationalError"]


def test_restart_of_the_server(same_story, postgres, connect):
    async def scene():
        victims = [await connect() for _ in range(2)]
        async with await connect() as watcher:
            sleeping = [asyncio.ensure_future(outcome(victim.execute(SLEEP))) for victim in victims]
            await until_asleep(watcher, 2)
        await asyncio.to_thread(postgres.stop)
        story = [*await asyncio.gather(*sleeping), await outcome(connect())]
        postgres.start()
        for victim in victims:
            await victim.close()
        async with await connect() as connection:
            return [*story, await value(connection, "select 'here again'")]

    assert same_story(scene) == ["AdminShutdown", "AdminShutdown", "OperationalError", "here again"]
