"""The client `websockets` against `app.py`: python with_websockets.py ws://ADDRESS/ws."""

import asyncio
import sys

import websockets

import checks
from checks import same

URL = sys.argv[1]


async def text_and_bytes():
    async with websockets.connect(URL) as socket:
        await socket.send("hello, \N{SNOWMAN}")
        same(await socket.recv(), "hello, \N{SNOWMAN}")
        await socket.send(b"\x00\x01\xff")
        same(await socket.recv(), b"\x00\x01\xff")


async def a_thousand_messages_in_order():
    async with websockets.connect(URL) as socket:

        async def send():
            for number in range(1000):
                await socket.send(str(number))

        sender = asyncio.create_task(send())
        same([await socket.recv() for _ in range(1000)], [str(number) for number in range(1000)])
        await sender


async def a_message_of_half_a_mebibyte():
    async with websockets.connect(URL, compression=None) as socket:
        await socket.send(b"z" * (512 << 10))
        same(await socket.recv(), b"z" * (512 << 10))


async def a_ping_is_answered():
    async with websockets.connect(URL) as socket:
        await asyncio.wait_for(await socket.ping(), 5)


async def a_quiet_connection_stays():
    async with websockets.connect(URL) as socket:
        await asyncio.sleep(3)
        await socket.send("still there?")
        same(await socket.recv(), "still there?")


async def a_subprotocol_is_agreed():
    async with websockets.connect(URL, subprotocols=["first.example", "second.example"]) as socket:
        same(socket.subprotocol, "first.example")


async def the_server_closes_with_its_code():
    async with websockets.connect(URL) as socket:
        await socket.send("bye")
        await socket.wait_closed()
        same((socket.close_code, socket.close_reason), (4001, "as you said"))


checks.run(
    [
        text_and_bytes,
        a_thousand_messages_in_order,
        a_message_of_half_a_mebibyte,
        a_ping_is_answered,
        a_quiet_connection_stays,
        a_subprotocol_is_agreed,
        the_server_closes_with_its_code,
    ]
)
