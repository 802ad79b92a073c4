"""A handler for Python's `logging` that posts to logweir's collector from a thread of its own.

    handler = LogweirHandler(Client("http://127.0.0.1:4801"), service="checkout")
    logging.getLogger().addHandler(handler)

What is logged waits in a bounded queue: at most `capacity` records. When that is full, `emit` waits up to `block` seconds
and then drops the record, counts it in `dropped`, and says so on standard error, once a minute at most: an application
isn't to stand still for its log. Records in the queue die with the process unless it ends in an orderly way
(`logging.shutdown`, which Python calls by itself at exit). Where that isn't enough, log to a file and let
`logweir-agent` read it.
"""

import logging
import queue
import sys
import threading
import time
import traceback

LEVELS = [(logging.CRITICAL, "fatal"), (logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info")]
END = object()


class LogweirHandler(logging.Handler):
    """See above. `linger` is how many seconds a record may wait for others; `close` waits up to `close_timeout`."""

    def __init__(self, client, service, capacity=10_000, batch=500, linger=0.5, block=0.0, close_timeout=10.0):
        super().__init__()
        self.client, self.service = client, service
        self.batch, self.linger, self.block, self.close_timeout = batch, linger, block, close_timeout
        self.queue = queue.Queue(capacity)
        self.dropped = 0
        self.complained = float("-inf")
        self.thread = threading.Thread(target=self.run, name="logweir", daemon=True)
        self.thread.start()

    def emit(self, record):
        # A line that the client itself logs would beget another.
        if threading.current_thread() is self.thread:
            return
        try:
            self.queue.put(self.event(record), block=self.block > 0, timeout=self.block or None)
        except queue.Full:
            self.dropped += 1
            self.complain(f"the queue is full: {self.dropped} records dropped so far")
        except Exception:
            self.handleError(record)

    def event(self, record):
        level = next((name for least, name in LEVELS if record.levelno >= least), "debug")
        attributes = {"logger": record.name}
        if record.exc_info:
            attributes["exception"] = clean("".join(traceback.format_exception(*record.exc_info)))
        return {
            "timestamp": round(record.created * 1000),
            "service": self.service,
            "level": level,
            "message": clean(record.getMessage()),
            "attributes": attributes,
        }

    def run(self):
        while True:
            events, ended = self.collect()
            if events:
                try:
                    for rejected in self.client.send(events):
                        self.complain(f"rejected: {rejected.code}: {rejected.detail}")
                except Exception as error:
                    self.dropped += len(events)
                    self.complain(f"{len(events)} records dropped: {error}")
            if ended:
                return

    def collect(self):
        """The next batch, and whether it is the last."""
        events = []
        item = self.queue.get()
        until = time.monotonic() + self.linger
        while item is not END:
            events.append(item)
            if len(events) == self.batch:
                return events, False
            try:
                item = self.queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return events, False
        return events, True

    def complain(self, what):
        if time.monotonic() - self.complained > 60:
            self.complained = time.monotonic()
            print(f"logweir: {what}", file=sys.stderr)

    def close(self):
        if self.thread.is_alive():
            try:
                self.queue.put(END, timeout=self.close_timeout)
                self.thread.join(self.close_timeout)
            except queue.Full:
                pass
            if self.thread.is_alive():
                print(f"logweir: about {self.queue.qsize()} records were not sent in time", file=sys.stderr)
        super().close()


def clean(text):
    """Half a surrogate pair is no text, and would be rejected."""
    return text.encode("utf-8", "replace").decode()
