"""Each request of `httpx` on its own, all over one HTTP/2 connection, to two servers: python by_request_httpx.py http://ADDRESS.

The route sends what says `x-pin: two` to the second, and gives /slow half a second.
"""

import asyncio
import sys
from collections import Counter

import httpx

import checks
from checks import same


def client():
    return httpx.AsyncClient(http1=False, http2=True, base_url=sys.argv[1], timeout=20)


async def servers(http, count, **more):
    """Which servers answer so many requests at once."""
    answers = await asyncio.gather(*(http.get("/", **more) for _ in range(count)))
    same({(answer.status_code, answer.http_version) for answer in answers}, {(200, "HTTP/2")})
    return Counter(answer.json()["server"] for answer in answers)


async def requests_of_one_connection_are_balanced():
    async with client() as http:
        seen = await servers(http, 100) + await servers(http, 100)
        if len(seen) != 2 or min(seen.values()) < 20:
            raise AssertionError(f"{seen}")


async def requests_follow_their_headers():
    async with client() as http:
        same(len(await servers(http, 50, headers={"x-pin": "two"})), 1)


async def a_request_that_fails_is_tried_elsewhere():
    async with client() as http:
        seen = list(await servers(http, 100))
        for failing, other in (seen, reversed(seen)):
            answers = await asyncio.gather(*(http.get(f"/unless/{failing}") for _ in range(5)))
            same([(answer.status_code, answer.text) for answer in answers], [(200, other)] * 5)


async def the_time_of_the_route_is_kept():
    async with client() as http:
        slow = http.get("/slow/5000")
        answer, quick = await asyncio.gather(slow, http.get("/slow/10"))
        same((answer.status_code, answer.headers["x-posthaste-flag"], quick.status_code), (504, "UT", 200))


checks.run(
    [
        requests_of_one_connection_are_balanced,
        requests_follow_their_headers,
        a_request_that_fails_is_tried_elsewhere,
        the_time_of_the_route_is_kept,
    ]
)
