"""What the dashboard and the alert rules ask Prometheus for: each metric with the labels that they use of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import yaml

from shared.project import PROJECT_ROOT

DASHBOARD = PROJECT_ROOT / "deploy" / "grafana" / "percept.json"
ALERTS = PROJECT_ROOT / "deploy" / "prometheus" / "alerts.yml"
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds when it scrapes."""
OF_MONITOR = ("percept_drift", "percept_quality", "percept_monitor_")
"""Beginnings of the metrics that `percept monitor` shows, not a service."""
_VARIABLES = {"$__rate_interval": "5m"}


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text("utf-8"))


def panels() -> list[dict[str, Any]]:
    """Return those that ask for something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Return every PromQL expression, with Grafana's own variables filled in."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [rule["expr"] for rule in rules()]
    for name, value in _VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def used(expression: str) -> dict[str, set[str]]:
    """Return each metric that an expression reads, with the labels that it needs of it.

    >>> used('sum by (job) (rate(a_total{status="200"}[5m])) / b') == {"a_total": {"job", "status"}, "b": set()}
    True
    """
    found: dict[str, set[str]] = {}
    for name, labels in _walk(promql_parser.parse(expression), frozenset()):
        found.setdefault(name, set()).update(labels)
    return found


def queried_variables() -> Iterator[tuple[str, str]]:
    """Yield metric and label of each variable of the dashboard that Prometheus fills."""
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert match, variable["definition"]
            yield match[1], match[2]


def exposed(exposition: str) -> dict[str, set[str]]:
    """Return each metric of a service's /metrics with the labels that its samples have."""
    found: dict[str, set[str]] = {}
    for line in exposition.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            labels = set(re.findall(r'(\w+)="', rest.rpartition("}")[0]))
            found.setdefault(name.split()[0], set()).update(labels)
    return found


def _walk(node: Any, grouped: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, grouped | {matcher.name for matcher in node.matchers.matchers}
        return
    if isinstance(node, promql_parser.AggregateExpr):
        # What an inner aggregation drops an outer one cannot ask for: only the innermost labels come from the metric.
        grouped = frozenset(node.modifier.labels) if node.modifier else frozenset()
    for part in ("expr", "lhs", "rhs", "vector_selector"):
        if hasattr(node, part):
            yield from _walk(getattr(node, part), grouped)
    for argument in getattr(node, "args", ()):
        yield from _walk(argument, grouped)
