"""Draws a result: requests per second and latency for each kind of request, next to the bare model."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.measure import BARE
from benchmarks.report import Result, figure, shown_level
from shared.training.plots import BLUE, GREEN, GRID, INK, MUTED, ORANGE, STYLE, WIDTH_IN, to_png

PEER = "#9fb3c8"
_ROW_IN = 0.24
_HEAD_IN = 0.75
_FOOT_IN = 0.3


def draw(result: Result) -> bytes:
    """Return a PNG with two panels per workload and one line per stack.

    Left: requests per second, the median with the range of the rounds; the dashed line is the bare model, without HTTP.
    Right: latency over the same connections, from the median to the 99th percentile.
    """
    workloads = list(result["workloads"])
    shown = {name: _stacks(result, name) for name in workloads}
    heights = [_HEAD_IN + _ROW_IN * len(shown[name]) for name in workloads]
    with mpl.rc_context(fname=STYLE):
        drawn = Figure(figsize=(WIDTH_IN, sum(heights) + _FOOT_IN), layout="constrained")
        foot = _FOOT_IN / (sum(heights) + _FOOT_IN)
        drawn.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
        grid = drawn.add_gridspec(len(workloads), 2, height_ratios=heights, width_ratios=(1.25, 1))
        for row, name in enumerate(workloads):
            rates, latencies = drawn.add_subplot(grid[row, 0]), drawn.add_subplot(grid[row, 1])
            _draw_rates(rates, result, name, shown[name])
            _draw_latencies(latencies, result, name, shown[name])
        drawn.text(0.99, 0.0, _legend(result), ha="right", va="bottom", color=MUTED, fontsize=8)
        return to_png(drawn)


def _stacks(result: Result, workload: str) -> list[str]:
    """Return the stacks that handle a workload, in the result's order."""
    level = shown_level(result, workload)
    return [stack for stack in result["stacks"] if figure(result, stack, workload, level)]


def _draw_rates(axes: Axes, result: Result, workload: str, stacks: Sequence[str]) -> None:
    level = shown_level(result, workload)
    found = [figure(result, stack, workload, level) for stack in stacks]
    limit = figure(result, BARE, workload, level)
    most = max([rate for each in (*found, limit) if each for rate in each.rates] + [1e-9])
    places = np.arange(len(stacks))[::-1]
    for place, stack, each in zip(places, stacks, found, strict=True):
        assert each is not None
        if each.rate is None:
            axes.annotate(f"{each.failed} failed", (0, place), (4, 0), textcoords="offset points", va="center",
                          color=ORANGE)  # fmt: skip
            continue
        axes.barh(place, each.rate, height=0.66, color=BLUE if stack.startswith("percept") else PEER)
        axes.hlines(place, min(each.rates), max(each.rates), color=INK, linewidth=1)
        label = f"{each.rate:,.0f}" if each.rate >= 20 else f"{each.rate:.1f}"
        axes.annotate(label, (max(each.rates), place), (4, 0), textcoords="offset points", va="center", color=INK)
    if limit and limit.rate:
        axes.axvline(limit.rate, color=GREEN, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_yticks(places, [result["stacks"][stack] for stack in stacks], color=INK)
    axes.set(xlim=(0, most * 1.18), ylim=(-0.6, len(stacks) - 0.4))
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{result['workloads'][workload]['title']}\n", fontsize=10)
    axes.text(0, 1.04, f"requests per second, {_connections(level)}", transform=axes.transAxes, color=MUTED, fontsize=8)


def _draw_latencies(axes: Axes, result: Result, workload: str, stacks: Sequence[str]) -> None:
    level = shown_level(result, workload)
    places = np.arange(len(stacks))[::-1]
    for place, stack in zip(places, stacks, strict=True):
        each = figure(result, stack, workload, level)
        if each is None or each.rate is None:
            continue
        colour = BLUE if stack.startswith("percept") else PEER
        axes.hlines(place, each.p50_ms, each.p99_ms, color=colour, linewidth=3)
        axes.plot(each.p50_ms, place, "o", color=colour, markersize=6)
        axes.plot(each.p99_ms, place, "|", color=colour, markersize=9, markeredgewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(places, [""] * len(stacks))
    axes.set_ylim(-0.6, len(stacks) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", which="major", color=GRID)
    axes.set_title("\n", fontsize=10)
    axes.text(0, 1.04, "latency, median to 99th percentile, ms", transform=axes.transAxes, color=MUTED, fontsize=8)


def _legend(result: Result) -> str:
    machine = result["machine"]
    return (
        f"dashed: bare model, {result['workers']} processes, no HTTP; thin line: range of the rounds; "
        f"{result['date']}, {machine['cpu']}, {machine['cores']} cores"
    )


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"
