"""Every documented route, asked with data of its schema's making, right and wrong: run as a program, for one service.

`python -m tests.fuzz.routes service:Percept FOLDER --examples 40` builds the app that a worker of that service serves,
middleware and BentoML included, around tiny bundles, and lets schemathesis ask it. Prints a report in JSON on the last
line. A process of its own, because a service reads its settings when it is imported.

What counts as a fault: a 5xx; a status, content type, header or body that the OpenAPI document does not name; a body
that the schema forbids and the service takes; one that the schema allows and the service calls malformed (422).
400, 413 and 415 may answer what a schema allows: none says which bytes are an image or what a limit is set to.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click

SERVICES = ("vision.service:Vision", "nlp.service:Language", "service:Percept")
KEY = "fuzz"
_ALLOWED_OF_GOOD_DATA = ["2xx", "3xx", 400, 401, 403, 404, 413, 415, 429]
_REJECTION = "negative_data_rejection"
_LONGEST_SHOWN = 1500


@dataclass
class Report:
    """What came of the requests to one service."""

    service: str
    requests: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    slowest: str = ""
    operations: dict[str, int] = field(default_factory=dict)
    """Route -> requests."""
    statuses: dict[str, int] = field(default_factory=dict)
    faults: list[dict[str, str]] = field(default_factory=list)
    """One of each kind: operation, check, what was expected, and the request as a command."""
    faults_in_all: int = 0


def bundles(folder: Path) -> dict[str, str]:
    """Make tiny bundles in a folder and return the settings of a service with them."""
    from tests.bundles import make_tagger_bundle
    from tests.language_bundles import make_intent_bundle, make_qa_bundle

    made = {
        "TAGGER": make_tagger_bundle(folder / "tagger"),
        "INTENT": make_intent_bundle(folder / "intent"),
        "QA": make_qa_bundle(folder / "qa"),
    }
    return {f"PERCEPT_{name}": str(bundle.path) for name, bundle in made.items()} | {
        "PERCEPT_KNOWLEDGE": str(folder / "knowledge.sqlite"),
        "PERCEPT_KNOWLEDGE_DOCUMENTS": "none",
        "PERCEPT_ADMIN_KEY": KEY,
        "PERCEPT_BUNDLES": str(folder),
        "PERCEPT_UI": "false",
        "PERCEPT_DEVICE": "cpu",
        "PERCEPT_LOG_LINES_PER_S": "0",
        "BENTOML_HOME": str(folder),
    }


def configuration(examples: int, seed: int, *, is_covered: bool) -> dict[str, Any]:
    """Return schemathesis's settings.

    Args:
        examples: random requests to each route.
        seed: of them.
        is_covered: whether the borders of each field are tried one by one, too.
    """
    return {
        "seed": seed,
        "continue-on-failure": True,
        "suppress-health-check": ["all"],
        "headers": {"X-API-Key": KEY},
        "generation": {
            "max-examples": examples,
            "mode": "all",
            "database": "none",
            "no-shrink": True,
            "with-security-parameters": False,
        },
        "phases": {"coverage": {"enabled": is_covered}, "stateful": {"enabled": False}},
        "checks": {"positive_data_acceptance": {"expected-statuses": _ALLOWED_OF_GOOD_DATA}},
        # Without them every path would name a model that is not there.
        "dictionaries": {
            "models": {"values": ["tiny-tagger", "tiny-intent", "tiny-qa"]},
            "versions": {"values": ["2026.11.23-00000000", "2026.11.24-00000000"]},
            "documents": {"values": ["guides/serving.md", "é.txt", "a.html", "b.pdf"]},
        },
        "parameters": {
            "path.name": {"dictionary": "models", "probability": 0.7},
            "path.version": {"dictionary": "versions", "probability": 0.7},
            "path.document": {"dictionary": "documents", "probability": 0.5},
        },
    }


def ask(app: Any, service: str, settings: dict[str, Any]) -> Report:
    """Return what came of asking all documented routes of an ASGI app."""
    import schemathesis
    from schemathesis.engine import events, from_schema

    report = Report(service)
    statuses: Counter[str] = Counter()
    kinds: set[tuple[str, str, str]] = set()
    start = time.perf_counter()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=schemathesis.Config.from_dict(settings))
    for event in from_schema(schema).execute():
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            trouble = repr(getattr(event, "value", None) or getattr(event, "exception", event))
            report.faults.append({"operation": getattr(event, "label", ""), "check": "run", "expected": trouble})
            report.faults_in_all += 1
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorded = event.recorder
        report.operations[event.label] = report.operations.get(event.label, 0) + len(recorded.interactions)
        for place, exchange in recorded.interactions.items():
            if exchange.response is None:
                statuses["none"] += 1
                continue
            statuses[str(exchange.response.status_code)] += 1
            if exchange.response.elapsed * 1000 > report.slowest_ms:
                report.slowest_ms = round(exchange.response.elapsed * 1000, 1)
                report.slowest = recorded.cases[place].value.as_curl_command()[:_LONGEST_SHOWN]
        for place, checks in recorded.checks.items():
            exchange = recorded.interactions.get(place)
            for check in checks:
                if check.failure_info is None or (check.name == _REJECTION and _is_refused_in_place(exchange)):
                    continue
                report.faults_in_all += 1
                failure = check.failure_info.failure
                kind = (event.label, check.name, failure.title)
                if kind not in kinds:
                    kinds.add(kind)
                    report.faults.append(
                        {
                            "operation": event.label,
                            "check": f"{check.name}: {failure.title}",
                            "expected": failure.message[:_LONGEST_SHOWN],
                            "request": check.failure_info.code_sample[:_LONGEST_SHOWN],
                        }
                    )
    report.operations = dict(sorted(report.operations.items()))
    report.statuses = dict(sorted(statuses.items()))
    report.requests = sum(report.operations.values())
    report.seconds = round(time.perf_counter() - start, 1)
    return report


def _is_refused_in_place(exchange: Any) -> bool:
    """Return whether the answer to several items has an error for one of them, as the document says it has."""
    try:
        results = exchange.response.json()["results"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return any("error" in each for each in results)


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--examples", default=40, show_default=True, help="Random requests to each route.")
@click.option("--seed", default=1, show_default=True)
@click.option("--coverage/--no-coverage", default=True, help="Whether the borders of each field are tried too.")
def main(service: str, folder: Path, examples: int, seed: int, coverage: bool) -> None:
    """Print a report in JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(bundles(folder))
    module, _, name = service.partition(":")
    app = getattr(import_module(module), name).to_asgi()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    report = ask(app, service, configuration(examples, seed, is_covered=coverage))
    print(json.dumps(asdict(report), ensure_ascii=False), flush=True)
    sys.stdout.flush()
    os._exit(0)  # schemathesis keeps an event loop that would be ended in a hurry


if __name__ == "__main__":
    main()
