"""A gRPC server of `grpcio` without generated code, messages are bytes: python grpc_server.py PORT NAME."""

import os
import sys
import threading
import time
from concurrent import futures

import grpc

NAME = sys.argv[2].encode()


def unary(request, context):
    context.send_initial_metadata((("x-from", "server"),))
    context.set_trailing_metadata((("x-trailer", "end"), ("x-data-bin", b"\x00\xff")))
    return request


def down(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def drip(request, context):
    for number in range(int(request)):
        yield b"%d" % number
        time.sleep(0.1)


def up(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request.upper()


def slow(request, context):
    time.sleep(int(request) / 1000)
    return b"at last"


def deadline(request, context):
    """How many milliseconds the caller leaves us."""
    left = context.time_remaining()
    return b"none" if left is None or left > 10**6 else b"%d" % (left * 1000)


def fail(request, context):
    code = next(code for code in grpc.StatusCode if code.value[0] == int(request))
    context.abort(code, "as you said: \N{SNOWMAN}")


def metadata(request, context):
    wanted = request.decode()
    values = [value for name, value in context.invocation_metadata() if name == wanted]
    return b"|".join(value if isinstance(value, bytes) else value.encode() for value in values)


def name(request, context):
    return NAME


def unless(request, context):
    """The server of that name cannot."""
    if request == NAME:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not here")
    return NAME


def half(request, context):
    """The server of that name begins its answer and cannot end it."""
    yield NAME
    if request == NAME:
        context.abort(grpc.StatusCode.UNAVAILABLE, "no more")


def end(request, context):
    """The server of that name ends at once."""
    if request == NAME:
        threading.Timer(0.1, os._exit, (0,)).start()
    return NAME


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Drip": grpc.unary_stream_rpc_method_handler(drip),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Name": grpc.unary_unary_rpc_method_handler(name),
    "Unless": grpc.unary_unary_rpc_method_handler(unless),
    "Half": grpc.unary_stream_rpc_method_handler(half),
    "End": grpc.unary_unary_rpc_method_handler(end),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
print("listening", flush=True)
server.wait_for_termination()
