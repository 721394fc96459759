"""Runs named checks one after the other and prints one line of JSON: which passed, and how the others failed."""

import asyncio
import inspect
import json
import sys
import time
import traceback


def run(checks):
    passed, failed = [], {}
    for check in checks:
        start = time.monotonic()
        try:
            result = check()
            if inspect.isawaitable(result):
                asyncio.run(in_time(result))
            passed.append(check.__name__)
        except BaseException as error:  # also what a check exits with
            where = traceback.extract_tb(error.__traceback__)[-1]
            line = next((f"line {f.lineno}" for f in traceback.extract_tb(error.__traceback__) if f.filename == sys.argv[0]), "")
            text = f"{type(error).__name__}: {error} ({line}, {where.name}, after {time.monotonic() - start:.1f} s)"
            failed[check.__name__] = text
    print(json.dumps({"passed": passed, "failed": failed}), flush=True)


async def in_time(work):
    return await asyncio.wait_for(work, 30)


def same(left, right):
    """An assertion that shows both sides."""
    if left != right:
        raise AssertionError(f"{str(left)[:300]!r} is not {str(right)[:300]!r}")
