"""Writes what Python's loggers write, and beside each file the minute and level of each of its events.

    python -m venv v && v/bin/pip install structlog loguru python-json-logger && v/bin/python python.py DIRECTORY
"""
import datetime
import json
import logging
import sys
import traceback

import loguru
import structlog
from pythonjsonlogger.json import JsonFormatter

out = sys.argv[1]
LEVELS = [(logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warn"),
          (logging.ERROR, "error"), (logging.CRITICAL, "fatal")]


def minute():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


class Expected:
    def __init__(self, name):
        self.file = open(f"{out}/{name}.expected", "w")

    def add(self, level):
        self.file.write(f"{minute()} {level}\n")


def stdlib(name, formatter):
    expected = Expected(name)
    handler = logging.FileHandler(f"{out}/{name}.log", "w")
    handler.setFormatter(formatter)
    logger = logging.getLogger("shop.api")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    for number, level in LEVELS:
        logger.log(number, 'no error: %s', "it's \"fine\"")
        expected.add(level)
    try:
        json.loads("{")
    except ValueError:
        logger.exception("it broke")
        expected.add("error")
    logger.info("GET /search?level=error 200")
    expected.add("info")


stdlib("python-logging", logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
stdlib("python-logging-plain", logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
stdlib("python-logging-brackets", logging.Formatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"))
stdlib("python-json-logger", JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))


def with_structlog(name, renderer):
    expected = Expected(name)
    file = open(f"{out}/{name}.log", "w")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=False,
    )
    log = structlog.get_logger()
    for call, (_, level) in zip(["debug", "info", "warning", "error", "critical"], LEVELS):
        getattr(log, call)("no error", user="u 7", path="/a?level=error")
        expected.add(level)
    file.close()


with_structlog("structlog-json", structlog.processors.JSONRenderer())
with_structlog("structlog-console", structlog.dev.ConsoleRenderer(colors=True))
with_structlog("structlog-logfmt", structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]))

LOGURU = [("TRACE", "trace"), ("DEBUG", "debug"), ("INFO", "info"), ("SUCCESS", "info"),
          ("WARNING", "warn"), ("ERROR", "error"), ("CRITICAL", "fatal")]
for name, options in [("loguru", {"level": 0}), ("loguru-json", {"level": 0, "serialize": True})]:
    expected = Expected(name)
    loguru.logger.remove()
    sink = loguru.logger.add(f"{out}/{name}.log", mode="w", **options)
    for word, level in LOGURU:
        loguru.logger.log(word, "no error")
        expected.add(level)
    try:
        1 / 0
    except ZeroDivisionError:
        loguru.logger.exception("it broke")
        expected.add("error")
    loguru.logger.info("after it")
    expected.add("info")
    loguru.logger.remove(sink)
