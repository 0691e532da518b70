"""Renders a result as Markdown: one table per kind of request, one for memory and startup, and the versions used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.measure import BARE
from benchmarks.stacks import PERCEPT

Result = dict[str, Any]
MOST_SHOWN = 32
"""Columns that show a single level use the highest number of connections up to this."""


@dataclass(frozen=True)
class Figure:
    """All rounds of one stack and workload at one number of connections."""

    rates: Sequence[float]
    """Requests per second of each round; empty if any round had a failure."""
    p50_ms: float
    p99_ms: float
    failed: int
    """Requests, over all rounds, that were not answered with 200."""
    kinds: str
    """The kinds of failure, comma-separated."""

    @property
    def rate(self) -> float | None:
        return median(self.rates) if self.rates else None


def figure(result: Result, stack: str, workload: str, level: int) -> Figure | None:
    """Return the medians over the rounds, or None if nothing was measured; one failed round spoils the rate."""
    wanted = {"stack": stack, "workload": workload, "connections": level}
    rows = [row for row in result["loads"] if all(row[name] == value for name, value in wanted.items())]
    if not rows:
        return None
    rates = [row["requests_per_s"] for row in rows]
    errors: dict[str, int] = {}
    for row in rows:
        for kind, count in row["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    return Figure(
        rates=[] if None in rates else rates,
        p50_ms=median(row["p50_ms"] for row in rows),
        p99_ms=median(row["p99_ms"] for row in rows),
        failed=sum(errors.values()),
        kinds=", ".join(sorted(errors)),
    )


def shown_level(result: Result, workload: str) -> int:
    """Return the number of connections that the plot and the single-level columns show."""
    levels = result["workloads"][workload]["levels"]
    return int(max((level for level in levels if level <= MOST_SHOWN), default=levels[0]))


def names(result: Result) -> dict[str, str]:
    """Return stack -> title, the bare model first."""
    return {BARE: f"bare model, {result['workers']} processes", **result["stacks"]}


def render(result: Result) -> str:
    """Return the whole report in Markdown."""
    parts = [_head(result)]
    parts += [_table(result, workload) for workload in result["workloads"]]
    if result["starts"]:
        parts.append(_starts(result))
    if result.get("parts"):
        parts.append(render_parts(result))
    parts += [f"**{row['stack']} ({row['family']}) could not be measured:** {row['problem']}" for row in
              result["problems"]]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _head(result: Result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}. {result['workers']} workers with one thread each; load from "
        f"{result['load']} on the same machine; {_rounds(result['rounds'])} of {result['seconds']:g} s "
        f"or more. Load average before the run: {machine['load_average_before']}.\n\n{versions}."
    )


def _table(result: Result, workload: str) -> str:
    """Return rates at all levels; at one level the range, the share of the bare model and Percept's lead; latencies."""
    described = result["workloads"][workload]
    levels, level = described["levels"], shown_level(result, workload)
    limit = figure(result, BARE, workload, level)
    ours = figure(result, PERCEPT, workload, level)
    head = [described["title"], *(f"{each} conn." for each in levels), f"range at {level}", "of the bare model"]
    head += ["Percept vs. this", "p50 / p99 at 1, ms", f"p50 / p99 at {level}, ms"]
    rows = []
    for stack, title in names(result).items():
        found = [figure(result, stack, workload, each) for each in levels]
        if not any(found):
            continue
        shown = figure(result, stack, workload, level)
        row = [title, *map(_rate, found)]
        row.append(f"{min(shown.rates):,.0f} to {max(shown.rates):,.0f}" if shown and shown.rates else "")
        row.append(_divided(shown, limit, "{:.0%}"))
        row.append("" if stack in (BARE, PERCEPT) else _divided(ours, shown, "{:.1f} ×"))
        one = figure(result, stack, workload, 1) if 1 in levels else None
        rows.append([*row, _latency(one), "" if stack == BARE else _latency(shown)])
    return _markdown(head, rows)


def _rate(found: Figure | None) -> str:
    if found is None:
        return ""
    if found.rate is None:
        return f"{found.failed} failed ({found.kinds})" if found.failed else "no answer"
    return f"{found.rate:,.0f}" if found.rate >= 100 else f"{found.rate:.1f}"


def _divided(found: Figure | None, other: Figure | None, template: str) -> str:
    return template.format(found.rate / other.rate) if found and other and found.rate and other.rate else ""


def _latency(found: Figure | None) -> str:
    if found is None or found.rate is None:
        return ""
    return f"{_ms(found.p50_ms)} / {_ms(found.p99_ms)}"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _starts(result: Result) -> str:
    rows = []
    for stack, title in result["stacks"].items():
        row = [title]
        for family in ("language", "vision"):
            found = [each for each in result["starts"] if each["stack"] == stack and each["family"] == family]
            row.append(f"{median(each['cold_start_s'] for each in found):.1f}" if found else "")
            row.append(f"{median(each['peak_memory_mib'] for each in found):,.0f}" if found else "")
        rows.append(row)
    head = [""]
    for family in ("language", "vision"):
        head += [f"{family}: time to first answer, s", f"{family}: peak memory, MiB"]
    return _markdown(head, rows)


PARTS = ("decode", "preprocess", "tokenise", "run", "decide", "serialise")


def render_parts(result: Result) -> str:
    """Return where the time of one request goes, one column per workload, in milliseconds.

    The last two rows are what no part accounts for (HTTP, and waiting for the batch's thread) and Percept's median over
    one connection.
    """
    parts: dict[str, dict[str, float]] = result["parts"]
    rows = [[part, *(_ms(each[part]) if part in each else "" for each in parts.values())] for part in PARTS]
    rows = [row for row in rows if any(row[1:])]
    whole = {name: figure(result, PERCEPT, name, 1) for name in parts}
    if all(found is not None and found.rates for found in whole.values()):
        p50 = {name: found.p50_ms for name, found in whole.items() if found is not None}
        rows.append(["rest (HTTP)", *(_ms(p50[name] - sum(parts[name].values())) for name in parts)])
        rows.append(["**whole request**", *(f"**{_ms(p50[name])}**" for name in parts)])
    titles = [result["workloads"][name]["title"] for name in parts]
    return _markdown(["one request over one connection, ms", *titles], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(result: Result) -> str:
    """Return one short table: Percept's rate, its share of the bare model and its lead over each other stack."""
    stacks = [stack for stack in result["stacks"] if not stack.startswith(PERCEPT)]
    rows = []
    for workload, described in result["workloads"].items():
        level = shown_level(result, workload)
        ours, limit = figure(result, PERCEPT, workload, level), figure(result, BARE, workload, level)
        row = [f"{described['title']}, {level} connections", _rate(ours), _divided(ours, limit, "{:.0%}")]
        rows.append([*row, *(_divided(ours, figure(result, stack, workload, level), "{:.1f} ×") for stack in stacks)])
    head = ["", "Percept, requests per second", "of the bare model"]
    head += [f"vs. {result['stacks'][each]}" for each in stacks]
    machine = result["machine"]
    return f"{_markdown(head, rows)}\n\n{result['date']}, {machine['cpu']}, {machine['cores']} cores.\n"


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"medians of {count} rounds"
