"""The client `aiohttp` against `app.py`: python with_aiohttp.py http://ADDRESS."""

import asyncio
import hashlib
import sys

import aiohttp

import checks
from checks import same

BASE = sys.argv[1]
BIG = bytes(range(256)) * 8192  # 2 MiB


def session(**options):
    return aiohttp.ClientSession(BASE, timeout=aiohttp.ClientTimeout(20), **options)


async def two_hundred_over_thirty_connections():
    async with session(connector=aiohttp.TCPConnector(limit=30)) as http:

        async def one(number):
            async with http.post("/sum", data=b"x" * number) as answer:
                return (await answer.json(content_type=None))["bytes"]

        same(await asyncio.gather(*(one(number) for number in range(200))), list(range(200)))


async def a_body_comes_back_while_it_goes():
    """Full duplex: the second part is sent only when the first has come back."""
    returned = asyncio.Event()

    async def parts():
        yield b"first"
        await asyncio.wait_for(returned.wait(), 5)
        yield b"second"

    async with session() as http, http.post("/echo", data=parts()) as answer:
        same(await answer.content.readexactly(5), b"first")
        returned.set()
        same(await answer.content.read(), b"second")


async def a_large_body_with_expect_continue():
    async with session() as http, http.post("/sum", data=BIG, expect100=True) as answer:
        result = await answer.json(content_type=None)
        same((result["bytes"], result["sha256"]), (len(BIG), hashlib.sha256(BIG).hexdigest()))


async def a_streamed_answer():
    async with session() as http, http.get("/stream/2000") as answer:
        total = 0
        async for part in answer.content.iter_any():
            total += len(part)
        same(total, 2000 * 1024)


async def a_reader_that_leaves():
    async with session() as http:
        async with http.get("/stream/5000") as answer:
            await answer.content.readany()
            answer.close()
        async with http.get("/status/200") as answer:
            same(answer.status, 200)


async def a_time_out_of_the_client():
    async with session() as http:
        try:
            async with http.get("/slow/3000", timeout=aiohttp.ClientTimeout(total=0.3)) as answer:
                raise AssertionError(f"an answer: {answer.status}")
        except asyncio.TimeoutError:
            pass
        async with http.get("/status/200") as answer:
            same(answer.status, 200)


async def a_websocket():
    async with session() as http, http.ws_connect("/ws") as socket:
        await socket.send_str("hello")
        same(await socket.receive_str(timeout=5), "hello")
        await socket.send_bytes(b"\x00\xff" * 70_000)
        same(await socket.receive_bytes(timeout=5), b"\x00\xff" * 70_000)
        await socket.send_str("bye")
        message = await socket.receive(timeout=5)
        same((message.type, socket.close_code), (aiohttp.WSMsgType.CLOSE, 4001))


checks.run(
    [
        two_hundred_over_thirty_connections,
        a_body_comes_back_while_it_goes,
        a_large_body_with_expect_continue,
        a_streamed_answer,
        a_reader_that_leaves,
        a_time_out_of_the_client,
        a_websocket,
    ]
)
