"""The client `httpx` over HTTP/2 with prior knowledge against `app.py`: python with_httpx.py http://ADDRESS."""

import asyncio
import hashlib
import sys

import httpx

import checks
from checks import same

BASE = sys.argv[1]
BIG = bytes(range(256)) * 8192  # 2 MiB


def client():
    return httpx.AsyncClient(http1=False, http2=True, base_url=BASE, timeout=20)


async def one_request():
    async with client() as http:
        answer = await http.get("/a/path?x=1", headers={"x-id": "one"})
        same((answer.status_code, answer.http_version), (200, "HTTP/2"))
        seen = answer.json()
        same((seen["path"], seen["query"]), ("/a/path", "x=1"))
        same(dict(seen["headers"])["x-id"], "one")


async def a_hundred_at_once():
    async with client() as http:
        answers = await asyncio.gather(*(http.post("/sum", content=b"x" * n) for n in range(100)))
        same([answer.json()["bytes"] for answer in answers], list(range(100)))


async def a_slow_one_holds_nobody_up():
    async with client() as http:
        slow = asyncio.create_task(http.get("/slow/1500"))
        for _ in range(20):
            same((await http.get("/status/200")).status_code, 200)
        if slow.done():
            raise AssertionError("twenty quick answers took longer than the slow one")
        same((await slow).text, "at last")


async def a_large_body():
    async with client() as http:
        answer = (await http.post("/sum", content=BIG)).json()
        same((answer["bytes"], answer["sha256"]), (len(BIG), hashlib.sha256(BIG).hexdigest()))


async def a_body_comes_back_while_it_goes():
    """The second part is sent only when the first has come back."""
    first = asyncio.Event()

    async def parts():
        yield b"first"
        await asyncio.wait_for(first.wait(), 5)
        yield b"second"

    async with client() as http:
        # httpx reads the answer only when the request is sent; the server's answer waits in the connection meanwhile.
        asyncio.get_running_loop().call_later(0.2, first.set)
        answer = await http.post("/echo", content=parts())
        same(answer.content, b"firstsecond")


async def a_streamed_answer():
    async with client() as http, http.stream("GET", "/stream/2000") as answer:
        total = 0
        async for part in answer.aiter_bytes():
            total += len(part)
        same(total, 2000 * 1024)


async def an_answer_that_is_left():
    """A stream is reset in its middle; the connection stays good."""
    async with client() as http:
        async with http.stream("GET", "/stream/5000") as answer:
            async for _ in answer.aiter_bytes():
                break
        same((await http.get("/status/200")).status_code, 200)


async def statuses_and_methods():
    async with client() as http:
        for status in (200, 204, 304, 404, 500, 503):
            same((await http.get(f"/status/{status}")).status_code, status)
        same((await http.head("/")).content, b"")
        same((await http.request("DELETE", "/x")).json()["method"], "DELETE")


checks.run(
    [
        one_request,
        a_hundred_at_once,
        a_slow_one_holds_nobody_up,
        a_large_body,
        a_body_comes_back_while_it_goes,
        a_streamed_answer,
        an_answer_that_is_left,
        statuses_and_methods,
    ]
)
