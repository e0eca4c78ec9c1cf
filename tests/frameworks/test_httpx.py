# SPDX-License-Identifier: MIT
"""httpx beside uvicorn, in the clear and over TLS."""

import asyncio
import ssl

import httpx
import trustme
from http_wire import BIG, CHUNK, application
from test_uvicorn import Server, serving
from uvicorn import Config


def test_httpx(run):
    async def main():
        async with serving("httptools") as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            answers = await asyncio.gather(*(client.post("/echo", content=b"%d" % n) for n in range(30)))
            assert [a.content for a in answers] == [b"%d" % n for n in range(30)]
            assert (await client.post("/size", content=bytes(BIG))).text == str(BIG)
            async with client.stream("GET", "/big") as stream:
                assert sum([len(chunk) async for chunk in stream.aiter_bytes()]) == BIG

    run(main(), timeout=20)


def test_httpx_over_tls(run, tmp_path):
    authority = trustme.CA()
    certificate = tmp_path / "certificate.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def main():
        server = Server(
            Config(application, port=0, loop="none", log_level="critical", ssl_certfile=str(certificate), lifespan="off")
        )
        task = asyncio.ensure_future(server.serve())
        await server.ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=context) as client:
            assert (await client.get("/")).text == "hello"
            assert (await client.get("/big")).content == CHUNK * (BIG // len(CHUNK))
        server.should_exit = True
        await task

    run(main(), timeout=20)
