"""Reads OpenMetrics text from standard input with Prometheus' own parser for Python, which is strict, and prints it as JSON:
[{"name", "type", "help", "unit", "samples": [{"name", "labels", "value"}]}]."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = [
    {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "unit": family.unit,
        "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]
json.dump(families, sys.stdout)
