"""The dashboard and the alert rules are such as Grafana and Prometheus load, and ask in PromQL that parses.

That a running service has what they ask for is held by tests/test_service.py.
"""

from __future__ import annotations

import re

import promql_parser
import pytest
import yaml

from tests.promql import ALERTS, dashboard, expressions, panels, rules, used

DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")
SEVERITIES = {"critical", "warning", "info"}


@pytest.mark.parametrize("expression", expressions())
def test_each_expression_parses_and_reads_metrics_of_ours(expression: str):
    assert promql_parser.parse(expression)
    names = used(expression)
    assert names
    assert all(name.startswith("percept_") for name in names)


def test_the_dashboard_has_what_grafana_needs_to_load_it():
    board = dashboard()
    assert board["schemaVersion"] >= 36
    assert (board["uid"], board["title"], board["id"]) == ("percept", "Percept", None)
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "job", "model"]
    source = board["templating"]["list"][0]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_each_panel_says_what_it_shows_and_asks_the_chosen_data_source():
    for panel in panels():
        assert panel["title"]
        assert panel["type"] in {"timeseries", "stat", "table"}
        assert {"h", "w", "x", "y"} == set(panel["gridPos"])
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_do_not_lie_on_each_other():
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_legends_name_labels_that_the_expression_keeps():
    for panel in panels():
        for target in panel["targets"]:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target["legendFormat"]


def test_rules_have_prometheus_form_and_say_what_to_do():
    document = yaml.safe_load(ALERTS.read_text("utf-8"))
    assert set(document) == {"groups"}
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert (
            {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        )
        assert DURATION.fullmatch(rule.get("for", "1m"))
        assert rule["labels"]["severity"] in SEVERITIES
        assert {"summary", "action"} == set(rule["annotations"])
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert re.search(rf"by \([^)]*\b{label}\b", rule["expr"]), f"{rule['alert']} names {label}"
