# SPDX-License-Identifier: MIT
"""Libraries that answer the loop from threads: aiosqlite, aiofiles, and aiodns with c-ares' own."""

import asyncio
import contextlib
import struct

import pytest
from stories import outcome

aiosqlite = pytest.importorskip("aiosqlite")
aiofiles = pytest.importorskip("aiofiles")
aiodns = pytest.importorskip("aiodns")
pycares = pytest.importorskip("pycares")


def test_sqlite(same_story):
    async def scene():
        async with aiosqlite.connect(":memory:") as database:
            await database.execute("create table numbers (number integer primary key)")
            await database.executemany("insert into numbers values (?)", [(n,) for n in range(1000)])
            await database.commit()
            await database.execute("delete from numbers")
            await database.rollback()

            async def find(number):
                async with database.execute("select number from numbers where number = ?", (number,)) as cursor:
                    return await cursor.fetchone()

            rows = await asyncio.gather(*(find(n) for n in range(0, 1100, 100)))
            async with database.execute("select * from numbers order by number") as cursor:
                total = sum([row[0] async for row in cursor])
            return rows, total, await outcome(database.execute("insert into numbers values (1)"))

    assert same_story(scene) == ([*((n,) for n in range(0, 1000, 100)), None], 499_500, "IntegrityError")


def test_files(same_story, tmp_path):
    async def scene():
        async def write_and_read(number):
            path = tmp_path / str(number)
            async with aiofiles.open(path, "w") as file:
                for line in range(20):
                    await file.write(f"{number}/{line}\n")
            async with aiofiles.open(path) as file:
                return [line async for line in file]

        return await asyncio.gather(*(write_and_read(n) for n in range(10)))

    assert same_story(scene) == [[f"{n}/{line}\n" for line in range(20)] for n in range(10)]


class NameServer(asyncio.DatagramProtocol):
    """Answers every question with 10.0.0.(length of the first label); knows no names that begin with `no`."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, packet, address):
        label_length = packet[12]
        unknown = packet[13:15] == b"no"
        question_end = packet.index(b"\0", 12) + 5
        flags, answers = (0x8183, 0) if unknown else (0x8180, 1)
        head = packet[:2] + struct.pack("!5H", flags, 1, answers, 0, 0)
        record = b"" if unknown else struct.pack("!3HIH4B", 0xC00C, 1, 1, 60, 4, 10, 0, 0, label_length)
        self.transport.sendto(head + packet[12:question_end] + record, address)


@contextlib.asynccontextmanager
async def name_server():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def test_names(same_story):
    async def scene():
        async with name_server() as port:
            resolver = aiodns.DNSResolver(nameservers=[f"127.0.0.1:{port}"], timeout=5, tries=1)

            async def address(name):
                answer = await resolver.query_dns(name, "A")
                return answer.answer[0].data.addr

            names = ["a" * n + ".example" for n in range(1, 30)]
            story = await asyncio.gather(*map(address, names), outcome(address("nowhere.example")))
            await resolver.close()
            return story

    assert same_story(scene) == [*(f"10.0.0.{n}" for n in range(1, 30)), "DNSError"]
