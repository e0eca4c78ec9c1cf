# SPDX-License-Identifier: MIT
"""Redis through redis-py: streams, many connections, connections that die."""

import asyncio
import contextlib

import pytest
from stories import outcome

redis = pytest.importorskip("redis.asyncio")

BIG = 10 << 20


@pytest.fixture
def client(redis_server):
    """Makes a client of a server without data; an async context manager."""

    @contextlib.asynccontextmanager
    async def client(way="tcp", **options):
        host, port = redis_server.address
        where = {"unix_socket_path": redis_server.socket_path} if way == "unix" else {"host": host, "port": port}
        async with redis.Redis(**where, protocol=3, **options) as client:
            await client.flushall()
            yield client

    return client


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_concurrent_commands(same_story, client, way):
    async def scene():
        async with client(way) as database:

            async def count(name):
                for _ in range(20):
                    await database.incr("all")
                    await database.incr(name)
                return await database.get(name)

            return [*await asyncio.gather(*(count(f"own {n}") for n in range(30))), await database.get("all")]

    assert same_story(scene) == [b"20"] * 30 + [b"600"]


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_big_values(same_story, client, way):
    payload = bytes(range(256)) * (BIG // 256)

    async def scene():
        async with client(way) as database:
            await database.set("big", payload)
            assert await database.get("big") == payload
            return await database.strlen("big")

    assert same_story(scene) == BIG


def test_pipelines(same_story, client):
    async def scene():
        async with client() as database:
            async with database.pipeline(transaction=False) as pipeline:
                for number in range(5000):
                    pipeline.set(f"key {number}", number)
                    pipeline.get(f"key {number}")
                answers = await pipeline.execute()
            keys = [key async for key in database.scan_iter(count=100)]
            return answers, len(keys), await database.mget("key 0", "key 4999", "no such key")

    answers = [answer for n in range(5000) for answer in (True, b"%d" % n)]
    assert same_story(scene) == (answers, 5000, [b"0", b"4999", None])


def test_transactions_that_collide(same_story, client):
    async def scene():
        async with client() as database:
            collisions = 0

            async def add_one():
                nonlocal collisions
                while True:
                    async with database.pipeline() as pipeline:
                        try:
                            await pipeline.watch("sum")
                            old = int(await pipeline.get("sum") or 0)
                            pipeline.multi()
                            pipeline.set("sum", old + 1)
                            return await pipeline.execute()
                        except redis.WatchError:
                            collisions += 1

            await asyncio.gather(*(add_one() for _ in range(10)))
            return await database.get("sum"), collisions > 0

    assert same_story(scene) == (b"10", True)


def test_publish_and_subscribe(same_story, client):
    async def scene():
        async with client() as database, database.pubsub() as listener:
            await listener.subscribe("news")
            await listener.psubscribe("other.*")

            async def hear():
                heard = []
                async for message in listener.listen():
                    if message["type"].endswith("message"):
                        heard.append((message["channel"], message["data"]))
                        if message["data"] == b"end":
                            return heard

            hearing = asyncio.ensure_future(hear())
            while await database.publish("other.first", "hello") == 0:
                pass
            for number in range(200):
                await database.publish("news", number)
            await database.publish("news", "end")
            return await hearing

    heard = same_story(scene)
    assert [data for channel, data in heard if channel == b"news"] == [*(b"%d" % n for n in range(200)), b"end"]
    assert (b"other.first", b"hello") in heard


def test_blocking_commands_and_cancellation(same_story, client):
    async def scene():
        async with client() as database:
            waiting = [asyncio.ensure_future(database.blpop("queue")) for _ in range(5)]
            lost = asyncio.ensure_future(database.blpop("nothing ever comes"))
            while (await database.info("clients"))["blocked_clients"] != 6:
                pass
            lost.cancel()
            with pytest.raises(asyncio.CancelledError):
                await lost
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(database.blpop("nothing ever comes"), 0.02)
            while (await database.info("clients"))["blocked_clients"] != 5:
                pass
            await database.rpush("queue", *range(5))
            return sorted(await asyncio.gather(*waiting))

    # A cancelled command leaves no answer behind for the next one on its connection.
    assert same_story(scene) == [[b"queue", b"%d" % n] for n in range(5)]


def test_killed_connections(same_story, client):
    async def scene():
        async with client(single_connection_client=True) as killer, client(retry=None) as victim:
            waiting = asyncio.ensure_future(outcome(victim.blpop("nothing ever comes")))
            while (await killer.info("clients"))["blocked_clients"] != 1:
                pass
            story = [await killer.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal") > 0, await waiting]
            return [*story, await victim.ping()]

    assert same_story(scene) == [True, "ConnectionError", True]


def test_restart_of_the_server(same_story, redis_server, client):
    async def scene():
        async with client(retry=None) as database, client() as watcher:
            waiting = asyncio.ensure_future(outcome(database.blpop("nothing ever comes")))
            while (await watcher.info("clients"))["blocked_clients"] != 1:
                pass
            await asyncio.to_thread(redis_server.stop)
            story = [await waiting, await outcome(database.ping())]
            redis_server.start()
            return [*story, await database.ping(), await watcher.ping()]

    assert same_story(scene) == ["ConnectionError", "ConnectionError", True, True]
