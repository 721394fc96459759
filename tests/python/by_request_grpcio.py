"""Each call of `grpcio` on its own, all over one connection, to two servers `one` and `two`: python by_request_grpcio.py ADDRESS.

The route sends what says `x-pin: two` there, gives Slow half a second and Drip one, and tries UNAVAILABLE again.
"""

import queue
import sys
import time
from collections import Counter

import grpc

import checks
from checks import same

CHANNEL = grpc.insecure_channel(sys.argv[1])
UNARY = {name: CHANNEL.unary_unary(f"/test.Echo/{name}") for name in ("Name", "Unless", "Slow", "End")}
HALF = CHANNEL.unary_stream("/test.Echo/Half")
DRIP = CHANNEL.unary_stream("/test.Echo/Drip")
BOTH = CHANNEL.stream_stream("/test.Echo/Both")


def many(count, method="Name", request=b"", **more):
    """Who answers so many calls at once."""
    calls = [UNARY[method].future(request, timeout=20, **more) for _ in range(count)]
    return Counter(call.result() for call in calls)


def calls_of_one_connection_are_balanced():
    seen = many(400)
    if min(seen[b"one"], seen[b"two"]) < 40:
        raise AssertionError(f"{seen}")


def calls_follow_their_metadata():
    same(many(50, metadata=(("x-pin", "two"),)), {b"two": 50})


def a_call_that_fails_is_tried_elsewhere():
    same(many(20, "Unless", b"one"), {b"two": 20})


def failing(call):
    """The status of what must fail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError(f"an answer: {answer}")


def the_time_of_the_route_is_a_deadline():
    start = time.monotonic()
    same(failing(lambda: UNARY["Slow"](b"5000", timeout=20)), grpc.StatusCode.DEADLINE_EXCEEDED)
    # Also where the answer has begun.
    stream = DRIP(b"100", timeout=20)
    same([next(stream), next(stream)], [b"0", b"1"])
    same(failing(lambda: list(stream)), grpc.StatusCode.DEADLINE_EXCEEDED)
    if time.monotonic() - start > 5:
        raise AssertionError("the deadline came late")


def streams_go_on_beside_calls():
    turns = queue.Queue()
    stream = BOTH(iter(turns.get, None), timeout=20)
    for number in range(20):
        turns.put(b"word%d" % number)
        same(next(stream), b"WORD%d" % number)
        many(5)
    turns.put(None)
    same(list(stream), [])


def wait_for_one():
    """It may still be left alone for what it did before."""
    while not many(20)[b"one"]:
        time.sleep(0.2)


def a_server_that_cannot_end_its_answers_is_left_alone():
    """That they begin well does not hide it."""
    wait_for_one()
    failed = 0
    for _ in range(40):
        for stream in [HALF(b"one", timeout=20) for _ in range(10)]:
            try:
                same(list(stream), [b"two"])
            except grpc.RpcError as error:
                same(error.code(), grpc.StatusCode.UNAVAILABLE)
                failed += 1
    if not 1 <= failed <= 60:
        raise AssertionError(f"{failed} of 400 failed")


def a_server_that_ends_is_not_missed():
    """Calls under way there are told so, those after it do not notice."""
    wait_for_one()
    turns = [queue.Queue() for _ in range(20)]
    streams = [BOTH(iter(turn.get, None), timeout=60) for turn in turns]
    for turn, stream in zip(turns, streams):
        turn.put(b"word")
        same(next(stream), b"WORD")
    while UNARY["End"](b"one", timeout=10) != b"one":
        pass
    time.sleep(1)
    same(many(100), {b"two": 100})
    ends = Counter()
    for turn, stream in zip(turns, streams):
        turn.put(None)
        ends[stream.code()] += 1
    if set(ends) != {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}:
        raise AssertionError(f"{ends}")


checks.run(
    [
        calls_of_one_connection_are_balanced,
        calls_follow_their_metadata,
        a_call_that_fails_is_tried_elsewhere,
        the_time_of_the_route_is_a_deadline,
        streams_go_on_beside_calls,
        a_server_that_cannot_end_its_answers_is_left_alone,
        a_server_that_ends_is_not_missed,
    ]
)
