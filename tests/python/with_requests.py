"""The client `requests` against `app.py`: python with_requests.py http://ADDRESS."""

import hashlib
import sys

import requests

import checks
from checks import same

BASE = sys.argv[1]
BIG = bytes(range(256)) * 8192  # 2 MiB


def get_tells_what_was_asked():
    seen = requests.get(BASE + "/a/path?x=1&y=%20", headers={"X-Id": "one"}, timeout=10)
    same(seen.status_code, 200)
    seen = seen.json()
    same((seen["method"], seen["path"], seen["query"]), ("GET", "/a/path", "x=1&y=%20"))
    headers = dict(seen["headers"])
    same(headers["x-id"], "one")
    same(headers["host"], BASE.removeprefix("http://").removesuffix(":80"))


def two_cookies_stay_two():
    answer = requests.get(BASE + "/", timeout=10)
    same(dict(answer.cookies), {"a": "1", "b": "2"})


def a_session_keeps_its_connection():
    with requests.Session() as session:
        for number in range(50):
            answer = session.post(BASE + "/sum", data=b"x" * number, timeout=10)
            same(answer.json()["bytes"], number)


def a_large_body_with_its_length():
    answer = requests.post(BASE + "/sum", data=BIG, timeout=20).json()
    same((answer["bytes"], answer["sha256"]), (len(BIG), hashlib.sha256(BIG).hexdigest()))


def a_large_body_in_chunks():
    def parts():
        for at in range(0, len(BIG), 50_000):
            yield BIG[at : at + 50_000]

    answer = requests.post(BASE + "/sum", data=parts(), timeout=20).json()
    same((answer["bytes"], answer["sha256"]), (len(BIG), hashlib.sha256(BIG).hexdigest()))


def a_streamed_answer():
    with requests.get(BASE + "/stream/500", stream=True, timeout=20) as answer:
        same(sum(len(part) for part in answer.iter_content(10_000)), 500 * 1024)


def head_has_no_body():
    answer = requests.head(BASE + "/", timeout=10)
    same((answer.status_code, answer.content), (200, b""))


def statuses_pass():
    with requests.Session() as session:
        for status in (200, 204, 304, 400, 404, 418, 500, 503):
            same(session.get(f"{BASE}/status/{status}", timeout=10).status_code, status)


def methods_pass():
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        same(requests.request(method, BASE + "/any", timeout=10).json()["method"], method)


checks.run(
    [
        get_tells_what_was_asked,
        two_cookies_stay_two,
        a_session_keeps_its_connection,
        a_large_body_with_its_length,
        a_large_body_in_chunks,
        a_streamed_answer,
        head_has_no_body,
        statuses_pass,
        methods_pass,
    ]
)
