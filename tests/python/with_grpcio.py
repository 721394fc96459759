"""The client `grpcio` against `grpc_server.py`: python with_grpcio.py ADDRESS."""

import queue
import sys
import time

import grpc

import checks
from checks import same

CHANNEL = grpc.insecure_channel(sys.argv[1])
UNARY = {name: CHANNEL.unary_unary(f"/test.Echo/{name}") for name in ("Unary", "Slow", "Deadline", "Fail", "Metadata", "Nothing")}
DOWN = CHANNEL.unary_stream("/test.Echo/Down")
UP = CHANNEL.stream_unary("/test.Echo/Up")
BOTH = CHANNEL.stream_stream("/test.Echo/Both")


def refused(call):
    """The status of a call that must fail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"an answer: {answer}")


def unary_with_metadata():
    answer, call = UNARY["Unary"].with_call(b"hello", timeout=10)
    same(answer, b"hello")
    same(dict(call.initial_metadata())["x-from"], "server")
    trailers = dict(call.trailing_metadata())
    same((trailers["x-trailer"], trailers["x-data-bin"]), ("end", b"\x00\xff"))


def metadata_goes_up():
    sent = (("x-name", "one"), ("x-data-bin", b"\x00\xfe"))
    same(UNARY["Metadata"](b"x-name", metadata=sent, timeout=10), b"one")
    same(UNARY["Metadata"](b"x-data-bin", metadata=sent, timeout=10), b"\x00\xfe")


def a_large_message():
    message = b"m" * (3 << 20)
    same(len(UNARY["Unary"](message, timeout=20)), len(message))


def a_thousand_unary_calls():
    calls = [UNARY["Unary"].future(b"%d" % number, timeout=20) for number in range(1000)]
    same([call.result() for call in calls], [b"%d" % number for number in range(1000)])


def a_stream_down():
    same(list(DOWN(b"2000", timeout=20)), [b"%d" % number for number in range(2000)])


def a_stream_up():
    same(UP((b"x" * 1000 for _ in range(500)), timeout=20), b"500000")


def both_ways_in_turn():
    """Each message is sent only when the answer to the one before has come."""
    turns = queue.Queue()
    call = BOTH(iter(turns.get, None), timeout=20)
    for number in range(100):
        turns.put(b"word%d" % number)
        same(next(call), b"WORD%d" % number)
    turns.put(None)
    same(list(call), [])


def a_deadline_is_told_and_kept():
    left = int(UNARY["Deadline"](b"", timeout=5))
    # A clock of whole milliseconds may round up.
    if not 3000 < left <= 5100:
        raise AssertionError(f"{left} ms are left of 5 s")
    same(UNARY["Deadline"](b"", timeout=None), b"none")
    start = time.monotonic()
    same(refused(lambda: UNARY["Slow"](b"5000", timeout=0.5))[0], grpc.StatusCode.DEADLINE_EXCEEDED)
    if time.monotonic() - start > 3:
        raise AssertionError("the deadline came late")


def a_cancelled_stream():
    call = DOWN(b"1000000", timeout=20)
    same(next(call), b"0")
    call.cancel()
    same(UNARY["Unary"](b"after", timeout=10), b"after")


def every_status_passes():
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            same(refused(lambda: UNARY["Fail"](b"%d" % code.value[0], timeout=10)), (code, "as you said: \N{SNOWMAN}"))


def an_unknown_method():
    same(refused(lambda: UNARY["Nothing"](b"", timeout=10))[0], grpc.StatusCode.UNIMPLEMENTED)


checks.run(
    [
        unary_with_metadata,
        metadata_goes_up,
        a_large_message,
        a_thousand_unary_calls,
        a_stream_down,
        a_stream_up,
        both_ways_in_turn,
        a_deadline_is_told_and_kept,
        a_cancelled_stream,
        every_status_passes,
        an_unknown_method,
    ]
)
