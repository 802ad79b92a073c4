"""What Schemathesis can't know from the document: how a body is compressed, which of two headers may stand, and
that an event must be of these days. Counts the answers, so that a run that tried nothing can't pass.

LOGWEIR_ANSWERS names the file for that count: {"POST /v1/events 202": 17, ...}.
"""

import atexit
import collections
import gzip
import json
import os
import struct
import time
import zlib

import schemathesis
from schemathesis.generation import GenerationMode

ANSWERS = collections.Counter()


def positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.headers is None:
        return
    # The token says who calls; a name that was made up is another's, and there is nothing more to see then.
    if positive(case) or zlib.crc32(str(case.headers).encode()) % 8:
        case.headers.pop("Logweir-Agent", None)
    if positive(case) and "Logweir-Batch" in case.headers:
        case.headers.pop("Idempotency-Key", None)
        # The coverage phase takes "0" for a text of this pattern.
        if case.headers["Logweir-Batch"] == "0":
            case.headers.pop("Logweir-Batch")


@schemathesis.hook
def after_call(ctx, case, response):
    ANSWERS[f"{case.method} {case.operation.path} {response.status_code}"] += 1


@atexit.register
def write_answers():
    with open(os.environ["LOGWEIR_ANSWERS"], "w") as file:
        json.dump(ANSWERS, file)


def fresh(event):
    """Another time in place of one that has the right form and is too old."""
    if not isinstance(event, dict):
        return event
    now = int(time.time() * 1000)
    stamp = event.get("timestamp")
    if isinstance(stamp, str):
        return {**event, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1000))}
    return {**event, "timestamp": now} if isinstance(stamp, (int, float)) else event


@schemathesis.serializer("application/json")
def of_json(ctx, value):
    if positive(ctx.case):
        value = [fresh(event) for event in value] if isinstance(value, list) else fresh(value)
    return encoded(ctx.case, value if isinstance(value, bytes) else json.dumps(value).encode())


@schemathesis.serializer("application/x-ndjson")
def of_lines(ctx, value):
    body = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    if positive(ctx.case):
        # Any text is a line; with a good one beside it the batch is taken.
        event = fresh({"timestamp": 0, "service": "fuzz", "level": "info", "message": "m"})
        body = json.dumps(event).encode() + b"\r\n\n" + body
    return encoded(ctx.case, body)


def encoded(case, body):
    """As Content-Encoding says; where the case is to be wrong, the body stays plain."""
    encoding = (case.headers or {}).get("Content-Encoding")
    if not positive(case):
        return body
    if encoding == "gzip":
        return gzip.compress(body)
    return zstd(body) if encoding == "zstd" else body


def zstd(body):
    """One frame of raw blocks (RFC 8878): its window is the content, whose size stands in four bytes."""
    blocks = [body[at : at + 100_000] for at in range(0, len(body), 100_000)] or [b""]
    frame = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(body))
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        frame += struct.pack("<I", len(block) << 3 | last)[:3] + block
    return frame
