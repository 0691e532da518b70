"""`make fuzz`: requests to the documented routes, hostile pictures, texts and documents, and what the dearest cost.

Exits with 1 where a request was answered with a fault or cost more than the bounds, a case raised what is no
InputError, or a process died. The report, the bytes of the slowest case of each kind and those of all that failed are
in the folder that it names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from shared.project import PROJECT_ROOT
from tests.fuzz import costs
from tests.fuzz.cases import KINDS
from tests.fuzz.page_costs import page_requests
from tests.fuzz.routes import SERVICES
from tests.fuzz.run import Report, fuzz
from tests.server import environment, serving

CASES = {"image": 100_000, "text": 10_000, "document": 10_000, "pdf": 200}
_FIRST_EXAMPLES = 220
"""Random requests to each route in the first round; rounds follow until the number is reached."""


def ask_routes(requests: int, seed: int) -> list[dict[str, Any]]:
    """Return the reports of all services; the all-in-one is asked until there are so many requests in all."""
    reports: list[dict[str, Any]] = []
    rounds = [(service, 20) for service in SERVICES[:-1]]
    while sum(report["requests"] for report in reports) < requests:
        service, examples = rounds.pop(0) if rounds else (SERVICES[-1], min(_FIRST_EXAMPLES, requests // 20 + 1))
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.routes", service, folder]
            options = ["--examples", str(examples), "--seed", str(seed + len(reports))]
            done = subprocess.run(
                [*command, *options], cwd=PROJECT_ROOT, env=environment(), stdout=subprocess.PIPE, check=False
            )
        if done.returncode != 0:
            raise click.ClickException(f"{service} could not be asked: exit status {done.returncode}")
        reports.append(json.loads(done.stdout.decode().splitlines()[-1]))
        told = reports[-1]
        click.echo(
            f"routes of {service}: {told['requests']} requests in {told['seconds']} s, {told['faults_in_all']} faults, "
            f"answers {told['statuses']}, slowest {told['slowest_ms']} ms"
        )
        for fault in told["faults"]:
            click.echo(f"  {fault}")
    return reports


def ask_costs(mutants: int, seed: int, output: Path) -> list[costs.Cost]:
    """Return what honest, hostile and mutated requests cost; the bodies of those beyond the bounds are kept."""
    models = [PROJECT_ROOT / "models" / name for name in ("tagger", "intent", "qa")]
    knowledge = {"PERCEPT_KNOWLEDGE": str(output / "costs.sqlite")}
    with serving(models, output / "costs.log", workers=1, models=3, **knowledge) as server:
        server.wait_for("a page", lambda: server.get("/ui/").status == 200)
        requests = [*costs.honest_requests().values(), *costs.hostile(), *page_requests(server)]
        with tqdm(total=len(requests) + mutants, desc="costs", unit="request") as bar:
            found = costs.measure(server, mutants=mutants, seed=seed, requests=requests, said=lambda _: bar.update())
    (output / "costs.md").write_text(costs.table(found) + "\n", encoding="utf-8")
    click.echo(costs.table(found))
    for number, cost in enumerate(each for each in found if not each.is_within()):
        path = output / f"cost-{seed}-{number}"
        path.write_bytes(cost.sent.body)
        click.echo(f"  beyond the bounds: {cost.line} ({path})")
    return found


def say(report: Report) -> None:
    """Print what came of the cases of one kind."""
    click.echo(
        f"{report.kind}: {report.cases} cases in {report.seconds} s, {len(report.crashes)} crashes, "
        f"{len(report.faults)} faults, {report.outcomes}, slowest {report.slowest_ms} ms ({report.slowest_file}), "
        f"memory {report.start_mb} MB after the first hundred, {report.peak_mb} MB at most"
    )
    for trouble in [*report.crashes, *report.faults]:
        click.echo(f"  {trouble}")


@click.command()
@click.option("--requests", default=10_000, show_default=True, help="To the documented routes; 0 for none.")
@click.option("--images", default=CASES["image"], show_default=True, help="Pictures that are decoded.")
@click.option("--texts", default=CASES["text"], show_default=True)
@click.option("--documents", default=CASES["document"], show_default=True)
@click.option("--pdfs", default=CASES["pdf"], show_default=True)
@click.option("--mutants", default=400, show_default=True, help="Of the dearest requests; -1 to measure no costs.")
@click.option("--publish", is_flag=True, help="Write the costs into docs/security.md.")
@click.option("--seed", default=1, show_default=True, help="Other cases come of another one.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/fuzz"), show_default=True
)
def main(
    requests: int,
    images: int,
    texts: int,
    documents: int,
    pdfs: int,
    mutants: int,
    publish: bool,
    seed: int,
    output: Path,
) -> None:
    """Send what nobody should send, and report what came of it."""
    output.mkdir(parents=True, exist_ok=True)
    routes = ask_routes(requests, seed)
    files = []
    for kind, cases in zip(KINDS, (images, texts, documents, pdfs), strict=True):
        if cases:
            files.append(fuzz(kind, cases, seed=seed, kept=output / kind))
            say(files[-1])
    found = ask_costs(mutants, seed, output) if mutants >= 0 else []
    if publish and found:
        costs.publish(found)
    report = {"seed": seed, "routes": routes, "files": [asdict(each) for each in files]}
    (output / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    click.echo(f"The report is {os.fspath(output / 'report.json')}.")
    is_clean = all(each.is_clean for each in files) and all(each.is_within() for each in found)
    if any(each["faults_in_all"] for each in routes) or not is_clean:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
