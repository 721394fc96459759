"""An ASGI application for uvicorn and hypercorn, as anyone would write it: no framework, no word of a mesh.

GET  /           method, path, version and headers as JSON, and the server's address
POST /echo       the body back, chunk by chunk as it comes
POST /sum        reads everything, then says how many bytes and their SHA-256
GET  /stream/N   N chunks of 1 KiB, without a content-length
GET  /slow/MS    answers after MS milliseconds
GET  /status/N   that status; 204 and 304 without a body
GET  /unless/IP  503 where that is the server's address
POST /reject     413 at once, the body is not read
WS   /ws         every message back; "bye" closes with 4001
"""

import asyncio
import hashlib
import json


async def application(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        await lifespan(receive, send)
    elif kind == "websocket":
        await websocket(scope, receive, send)
    else:
        await http(scope, receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def websocket(scope, receive, send):
    await receive()
    offered = scope.get("subprotocols") or [None]
    await send({"type": "websocket.accept", "subprotocol": offered[0]})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you said"})
            return
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def chunks(receive):
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send, status, body=b"", headers=()):
    fields = [(b"content-length", b"%d" % len(body)), *headers]
    if status in (204, 304):
        fields = list(headers)
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def http(scope, receive, send):
    path, _, last = scope["path"].rpartition("/")
    here = scope["server"][0].removeprefix("::ffff:")
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(disconnected(receive))
        for number in range(int(last)):
            await send({"type": "http.response.body", "body": b"%04d" % (number % 10000) * 256, "more_body": True})
            await asyncio.sleep(0)
            if gone.done():
                return
        gone.cancel()
        await send({"type": "http.response.body"})
    elif path == "/slow":
        await asyncio.sleep(int(last) / 1000)
        await answer(send, 200, b"at last")
    elif path == "/unless":
        await answer(send, 503 if last == here else 200, here.encode())
    elif path == "/status":
        await answer(send, int(last), b"" if last in ("204", "304") else b"as asked")
    elif scope["path"] == "/echo":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for chunk in chunks(receive):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})
    elif scope["path"] == "/sum":
        total, digest = 0, hashlib.sha256()
        async for chunk in chunks(receive):
            total += len(chunk)
            digest.update(chunk)
        await answer(send, 200, json.dumps({"bytes": total, "sha256": digest.hexdigest()}).encode())
    elif scope["path"] == "/reject":
        await answer(send, 413, b"too much")
    else:
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "version": scope["http_version"],
            "server": here,
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        }
        body = json.dumps(seen).encode()
        kind = [(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await answer(send, 200, body if scope["method"] != "HEAD" else b"", kind)
