#!/usr/bin/env python3
"""A client for logweir's collector, with nothing but the standard library.

    client = Client("http://127.0.0.1:4801", token="…")
    client.send([{"timestamp": 1795514580000, "service": "checkout", "level": "error", "message": "card declined"}])

A client is a producer that numbers its events 1, 2, 3, …; a batch that is sent again, whole or in halves, bears the same
numbers and so is counted once, also when an answer got lost.

As a program it sends NDJSON from standard input: LOGWEIR_URL, LOGWEIR_TOKEN or LOGWEIR_AGENT, LOGWEIR_BATCH (500).
Exit codes: 0 all taken, 1 some event was rejected, 3 the collector doesn't let us in.
"""

import gzip
import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass

LONGEST_WAIT = 60.0


class Refused(Exception):
    """The request will never be taken as it is: mend URL or token."""


class GaveUp(Exception):
    """Not taken within `give_up_after`. It may have been taken by an attempt without an answer; sent again by
    `Client.resend`, it still counts once."""

    def __init__(self, batch, last):
        super().__init__(f"not taken in time; the last attempt ended with: {last}")
        self.batch = batch


@dataclass
class Rejected:
    """An event that isn't counted, and why."""

    event: bytes
    code: str
    detail: str


class Client:
    """Sends batches, each until somebody has decided about it. May be used by several threads.

    `give_up_after` bounds the seconds for one batch; None tries for ever.
    """

    def __init__(self, url, token=None, agent=None, timeout=30.0, give_up_after=None):
        self.url = url.rstrip("/") + "/v1/events"
        self.timeout = timeout
        self.give_up_after = give_up_after
        self.headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        if agent:
            self.headers["Logweir-Agent"] = agent
        self.producer = uuid.uuid4()
        self.next = 1
        self.lock = threading.Lock()

    def send(self, events):
        """Sends events: dicts, or texts of one line each. Returns those that were rejected."""
        lines = [line for line in map(one_line, events) if line.strip()]
        if not lines:
            return []
        with self.lock:
            first = self.next
            self.next += len(lines)
        return self.resend((first, lines))

    def resend(self, batch):
        """Sends what a `GaveUp` holds, under its old numbers."""
        first, lines = batch
        body = gzip.compress(b"\n".join(lines) + b"\n", 1)
        begun, attempt = time.monotonic(), 0
        while True:
            status, told, answer = self.post(first, body)
            if status == 202:
                rejected = answer.get("rejected", [])
                return [Rejected(lines[r["index"]], r["code"], r["detail"]) for r in rejected]
            if status == 422 and "rejected" in answer:
                return [Rejected(lines[r["index"]], r["code"], r["detail"]) for r in answer["rejected"]]
            if status == 413 and len(lines) > 1:
                half = len(lines) // 2
                return self.resend((first, lines[:half])) + self.resend((first + half, lines[half:]))
            if status in (400, 413, 415, 422):
                detail = answer.get("detail", f"HTTP {status}")
                return [Rejected(line, answer.get("type", "").rsplit(":", 1)[-1], detail) for line in lines]
            if status not in (None, 408, 429) and status < 500:
                raise Refused(f"HTTP {status}: {answer.get('detail', '')}")
            wait = pause(told, attempt)
            attempt += 1
            if self.give_up_after is not None and time.monotonic() + wait - begun > self.give_up_after:
                raise GaveUp(batch, answer.get("detail", f"HTTP {status}"))
            time.sleep(wait)

    def post(self, first, body):
        """One attempt: status (None without an answer), seconds to wait if they were told, and the answer's JSON."""
        headers = {**self.headers, "Logweir-Batch": f"{self.producer}/{first}"}
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return response.status, None, parse(response.read())
            except urllib.error.HTTPError as error:
                with error:
                    answer = parse(error.read())
                    return error.code, told_wait(error.headers, answer), answer
        except (OSError, http.client.HTTPException) as error:
            return None, None, {"detail": str(error) or type(error).__name__}


def one_line(event):
    if isinstance(event, dict):
        return json.dumps(event, separators=(",", ":")).encode()
    return (event.encode() if isinstance(event, str) else event).rstrip(b"\r\n")


def parse(body):
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def told_wait(headers, answer):
    """When to come back, in seconds: more exactly from the body, else from the header."""
    try:
        if "retry_after_ms" in answer:
            return float(answer["retry_after_ms"]) / 1000
        return float(headers["Retry-After"])
    except (TypeError, ValueError):
        return None


def pause(told, attempt):
    if told is not None:
        # A quarter more at most, so that not all come at once.
        return told * (1 + random.random() / 4)
    # Anything up to a limit that doubles: "full jitter".
    return random.uniform(0, min(LONGEST_WAIT, 0.2 * 2 ** min(attempt, 20)))


def main():
    env = os.environ
    client = Client(
        env.get("LOGWEIR_URL", "http://127.0.0.1:4801"), env.get("LOGWEIR_TOKEN"), env.get("LOGWEIR_AGENT")
    )
    size, batch, code = int(env.get("LOGWEIR_BATCH", "500")), [], 0

    def flush():
        nonlocal code
        for rejected in client.send(batch):
            code = 1
            print(f"rejected: {rejected.code}: {rejected.detail}: {rejected.event!r}", file=sys.stderr)
        batch.clear()

    try:
        for line in sys.stdin.buffer:
            batch.append(line)
            if len(batch) == size:
                flush()
        flush()
    except Refused as error:
        print(error, file=sys.stderr)
        return 3
    return code


if __name__ == "__main__":
    sys.exit(main())
