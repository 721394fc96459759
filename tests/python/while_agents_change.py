"""Clients that go on while the node's agents are stopped or replaced: python while_agents_change.py WEB GRPC FOLDER.

Each keeps its connections for as long as it may. Prints a line when all of them have begun, and the report when FOLDER/end exists.
A call that fails is a failure, whatever its kind: none of these clients repeats anything but what never left, and POST is not repeated.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time

import grpc
import h2.config
import h2.connection
import httpx
import requests
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame

WEB, GRPC, FOLDER = sys.argv[1:]
LONGEST = 90
BEGAN = time.monotonic()
REPORT = {"calls": {}, "failed": []}


def over():
    return os.path.exists(f"{FOLDER}/end") or time.monotonic() - BEGAN > LONGEST


def note(name, error=None):
    REPORT["calls"][name] = REPORT["calls"].get(name, 0) + 1
    if error is not None:
        REPORT["failed"].append(f"{name} after {time.monotonic() - BEGAN:.2f} s: {type(error).__name__}: {error}")


def call(name, work):
    try:
        work()
        note(name)
    except Exception as error:
        note(name, error)


def equal(left, right):
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


def unary_calls(channel):
    """One after the other over one channel."""
    ask = channel.unary_unary("/test.Echo/Unary")
    while not over():
        call("unary", lambda: equal(ask(b"hello", timeout=20), b"hello"))
        time.sleep(0.003)


def long_calls(channel):
    """Under way when the change comes."""
    drip = channel.unary_stream("/test.Echo/Drip")
    while not over():
        call("stream", lambda: equal(sum(1 for _ in drip(b"20", timeout=20)), 20))


def posts():
    """Over one HTTP/1.1 connection."""
    with requests.Session() as session:
        while not over():
            call("post", lambda: equal(session.post(f"http://{WEB}/echo", data=b"x" * 100, timeout=20).content, b"x" * 100))
            time.sleep(0.003)


def new_connections():
    while not over():
        call("new", lambda: equal(requests.get(f"http://{WEB}/status/200", timeout=20).status_code, 200))
        time.sleep(0.003)


def idle_connection(ready):
    """HTTP/2 with prior knowledge; rests while agents change. (httpx fails what is under way when GOAWAY comes, whatever it says.)"""

    async def work():
        async with httpx.AsyncClient(http1=False, http2=True, base_url=f"http://{WEB}", timeout=20) as http:
            equal((await http.post("/echo", content=b"one")).content, b"one")
            ready.set()
            while not over():
                await asyncio.sleep(0.02)
            equal((await http.post("/echo", content=b"two")).content, b"two")

    call("idle", lambda: asyncio.run(work()))


def witness(ready):
    """One HTTP/2 connection, frame by frame: a request under way, GOAWAY, the request's answer, the end. (`h2` takes no frame after GOAWAY.)"""
    host, port = GRPC.rsplit(":", 1)
    seen = REPORT["witness"] = []
    with socket.create_connection((host, int(port)), timeout=0.2) as wire:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http.initiate_connection()

        def ask(milliseconds):
            stream, message = http.get_next_available_stream_id(), str(milliseconds).encode()
            head = [(":method", "POST"), (":scheme", "http"), (":authority", "echo"), (":path", "/test.Echo/Slow")]
            http.send_headers(stream, head + [("content-type", "application/grpc"), ("te", "trailers")])
            http.send_data(stream, b"\0" + struct.pack(">I", len(message)) + message, end_stream=True)
            wire.sendall(http.data_to_send())

        ask(1)
        for frame in frames(wire):
            if isinstance(frame, (SettingsFrame, PingFrame)) and "ACK" not in frame.flags:
                body = {"opaque_data": frame.opaque_data} if isinstance(frame, PingFrame) else {}
                wire.sendall(type(frame)(0, flags=["ACK"], **body).serialize())
            elif isinstance(frame, GoAwayFrame):
                seen.append(f"goaway {frame.error_code}")
            elif isinstance(frame, RstStreamFrame):
                seen.append(f"reset {frame.stream_id}")
            elif "END_STREAM" in frame.flags:
                seen.append(f"answer {frame.stream_id}")
                if not ready.is_set():
                    # As long as it takes until the change comes, and a little more.
                    ask(4000)
                    ready.set()
            elif over() and "answer 3" in seen:
                return
        seen.append("end")


def frames(wire):
    """All that come, and now and then one that says nothing, until the end."""
    data = b""
    while True:
        try:
            more = wire.recv(65536)
        except TimeoutError:
            yield PingFrame(0, flags=["ACK"])
            continue
        if not more:
            return
        data += more
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            frame.parse_body(memoryview(data[9 : 9 + length]))
            data = data[9 + length :]
            yield frame


def main():
    # Two channels do not share their connection if their options differ.
    channels = [grpc.insecure_channel(GRPC, options=(("x-channel", number),)) for number in range(2)]
    ready = [threading.Event(), threading.Event()]
    work = [
        (unary_calls, channels[0]),
        (long_calls, channels[1]),
        (posts,),
        (new_connections,),
        (idle_connection, ready[0]),
        (witness, ready[1]),
    ]
    threads = [threading.Thread(target=of, args=arguments, daemon=True) for of, *arguments in work]
    for thread in threads:
        thread.start()
    for event in ready:
        event.wait(30)
    while not all(REPORT["calls"].get(name, 0) > 20 for name in ("unary", "post", "new")):
        time.sleep(0.01)
    print(json.dumps({"going": True}), flush=True)
    for thread in threads:
        thread.join(LONGEST + 30)
    print(json.dumps(REPORT), flush=True)


main()
