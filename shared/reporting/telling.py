"""From evidence to the page: sections of blocks, each a sentence, a list, a table or a chart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from shared.bundle.layout import ONNX
from shared.reporting.evidence import (
    NEAR,
    NONE,
    RIGHT,
    SHARE,
    WRONG,
    Check,
    Comparison,
    Confusion,
    Evidence,
    Example,
    Gate,
    Label,
    Measure,
    Measured,
    Outcome,
    Rules,
    Share,
    counted,
    is_number,
)
from shared.reporting.wording import Words
from shared.reporting.worth import DAYS, Assumed, break_even, limits, main_outcome, worth_of

Block = dict[str, Any]
SHOWN_LABELS = 24
SHOWN_WEAK = 8
SHOWN_CONFUSED = 4
SHOWN_PARTS = 6
SHOWN_GROUPS = 5
SHOWN_SETS = 12
SHOWN_TEXT = 120
"""Characters of a text that somebody sent."""
LEAST_CONFUSED = 3
"""Times that a label was taken for another, below which nothing is advised."""
LEAST_EXAMPLES = 5
"""Of a label, below which nothing is said of it."""
SURE = 0.05
"""Chance that some label is called weak although none is (Bonferroni)."""
WIDE = 0.1
"""Interval of the share right from which on more examples are asked for."""
UNCALIBRATED = 0.05
"""Mean gap between confidence and share right from which on confidences are not to be relied on."""
_LIMITED = re.compile(r"non-?\s?commercial|\bNC\b|\bunknown\b|\bnone\b|\bresearch\b", re.IGNORECASE)
_PARTS = (RIGHT, NEAR, WRONG, NONE)
_SPAN = re.compile(r"(\S+) to (\S+) (.+)")
"""A length as a comparison names it, such as "5 to 14 words"."""
_LEAST_RECORDS = 100
"""With which `percept monitor` begins to tell."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class Telling:
    """What is told, to whom, and when."""

    evidence: Evidence
    assumed: Assumed
    words: Words
    today: date
    title: str | None = None
    training_minutes: float | None = None


def tell(told: Telling) -> dict[str, Any]:
    """Return all that the page shows."""
    evidence, words = told.evidence, told.words
    bundle, results = evidence.bundle, evidence.results
    parts: list[tuple[str, Callable[[Telling], list[Block]]]] = [
        ("what", _what), ("good", _good), ("sure", _sure), ("weak", _weak), ("beside", _beside), ("use", _use),
        ("worth", _worth), ("risks", _risks), ("cost", _cost), ("next", _next),
    ]  # fmt: skip
    sections = [{"id": name, "heading": words(name), "blocks": make(told)} for name, make in parts]
    name = results.title if results is not None else bundle.name if bundle is not None else ""
    return {
        "language": words.language,
        "brand": words("brand"),
        "title": told.title or name,
        "subtitle": words("version", version=f"{bundle.name} {bundle.version}") if bundle is not None else None,
        "made": _made(told),
        "short": words("in short"),
        "lead": _lead(told),
        "sections": [each for each in sections if each["blocks"]],
    }


def _made(told: Telling) -> str:
    evidence, words = told.evidence, told.words
    others = [
        words(f"and {name}")
        for name in ("comparison", "monitoring", "gate", "results")
        if getattr(evidence, name) is not None and (name != "results" or evidence.bundle is not None)
    ]
    more = words("with others", others=words.listed(others)) if others else ""
    key = "made" if evidence.bundle is not None else "made from results"
    return f"{words(key, date=words.date(told.today.isoformat()), others=more)} {words('print')}"


def _lead(told: Telling) -> list[str]:
    """Return the few sentences that somebody reads who reads nothing else."""
    evidence, words = told.evidence, told.words
    lines = []
    if evidence.results is not None:
        lines.append(evidence.results.question)
        tried = counted(evidence.results)
        if tried is not None:
            lines += [_outcome_line(words, tried), words("interval lead", low=words.of_hundred(tried.low),
                                                         high=words.of_hundred(tried.high))]  # fmt: skip
        lines += [*(_measure_line(words, each) for each in evidence.results.measures[:2])]
    elif evidence.bundle is not None:
        lines.append(_task_line(told))
    outcomes = evidence.measured.outcomes if evidence.measured is not None else ()
    if outcomes and evidence.results is None:
        first = outcomes[0]
        lines += [_outcome_line(words, first), words("interval lead", low=words.of_hundred(first.low),
                                                     high=words.of_hundred(first.high))]  # fmt: skip
        lines += [_outcome_line(words, each) for each in outcomes[1:]]
    if evidence.bundle is not None and not outcomes and evidence.results is None:
        lines.append(words("good unknown"))
    lines += _open_rules(words, evidence.measured.rules if evidence.measured is not None else None)
    if evidence.monitoring is not None:
        lines.append(words(f"state {evidence.monitoring.state}"))
    return lines


def _task_line(told: Telling) -> str:
    assert told.evidence.bundle is not None
    task, count = told.evidence.bundle.config.task, len(told.evidence.bundle.labels)
    if task == "intent":
        return told.words("what intent", count=told.words.count(count, "intent"))
    if task == "tagging":
        return told.words("what tagging", count=told.words.count(count, "label"))
    if task in ("qa", "embedding", "answer-writer"):
        return told.words(f"what {task}")
    return told.words("what other", task=task)


def _outcome_line(words: Words, outcome: Outcome) -> str:
    said = _of_hundred(words, outcome)[1]
    return words(f"lead {outcome.kind}", **{name: said.get(name, "0") for name in _PARTS})


# --- What it does


def _what(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    blocks: list[Block] = []
    if evidence.results is not None:
        blocks.append(_quote(words("question"), evidence.results.question))
        if evidence.results.answer:
            blocks.append(_quote(words("answer"), evidence.results.answer))
        if evidence.results.data:
            blocks.append(_list(words("learned from"), evidence.results.data))
    if evidence.bundle is None:
        return blocks
    config, labels = evidence.bundle.config, evidence.bundle.labels
    blocks.append(_text(_task_line(told)))
    if config.card.get("summary"):
        blocks.append(_quote(words("makers say"), str(config.card["summary"])))
    if config.problem_type is not None:
        shown = labels[:SHOWN_LABELS]
        more = [words("and more", number=words.number(len(labels) - len(shown)))] if len(labels) > len(shown) else []
        blocks.append({"kind": "chips", "title": words("labels"), "items": shown, "more": more})
    if evidence.examples:
        blocks.append(
            {
                "kind": "examples",
                "title": words("examples"),
                "items": [_example(words, each) for each in evidence.examples],
            }
        )
    learned_from = _datasets(words, config.provenance.dataset) or [words("unknown")]
    blocks.append(_list(words("learned from"), learned_from, SHOWN_SETS, words))
    if evidence.measured is not None and evidence.measured.confusions:
        lines = [_confusion_line(words, each) for each in evidence.measured.confusions[:SHOWN_CONFUSED]]
        blocks.append(_list(words("mistakes"), lines))
    return blocks


def _example(words: Words, example: Example) -> Block:
    answers = [words("example answer", name=name, score=words.of_hundred(score)) for name, score in example.answers]
    return {"photo": example.photo, "asked": None if example.photo else words.quoted(example.asked),
            "answer": ", ".join(answers) or words("example none")}  # fmt: skip


def _datasets(words: Words, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return where the examples are from, with their number and licence; files of one origin together."""
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        count = entry.get("examples")
        counts[_origin(words, entry), str(entry.get("licence") or words("unknown"))] += (
            int(count) if is_number(count) else 0
        )
    return [
        words("of dataset", name=name, count=words.count(count, "example"), licence=licence)
        for (name, licence), count in counts.items()
    ]


def _origin(words: Words, entry: dict[str, Any]) -> str:
    return str(entry.get("origin") or entry.get("name") or words("unknown"))


def _confusion_line(words: Words, found: Confusion) -> str:
    key = "mistake none" if found.is_silence else "mistake"
    label = words("out of scope") if found.is_foreign else found.label
    return words(key, label=label, given=found.given, count=words.number(found.count), of=words.number(found.of))


# --- How good it is


def _good(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    measured = evidence.measured
    blocks: list[Block] = []
    if evidence.results is not None:
        tried = counted(evidence.results)
        blocks += [_hundred(words, tried)] if tried is not None else []
        blocks += _results_table(told)
    if measured is not None and measured.outcomes:
        blocks += [_quote(words("by makers"), words("on other data"))] if blocks else []
    if measured is not None:
        for outcome in measured.outcomes:
            blocks.append(_hundred(words, outcome))
        if any(each.kind == "answerable" for each in measured.outcomes):
            blocks.append(_text(words("by words"), "soft"))
        if any(each.kind == "labels" for each in measured.outcomes) and measured.overall.get("untagged") is not None:
            blocks.append(_text(words("untagged", share=words.of_hundred(measured.overall["untagged"]))))
        blocks += _simple_rules(words, measured)
        blocks += _calibration(words, measured)
    if not blocks or (evidence.results is None and (measured is None or not measured.outcomes)):
        blocks.insert(0, _text(words("good unknown"), "warn"))
    return blocks


def _hundred(words: Words, outcome: Outcome) -> Block:
    """Return a chart of 100 dots, and how many each colour has in words."""
    dots, said = _of_hundred(words, outcome)
    parts = [
        {"is": name, "dots": count, "share": said[name], "name": words(f"{outcome.kind} {name}")}
        for name, count in dots.items()
    ]
    return {"kind": "hundred", "title": words(f"title {outcome.kind}"), "parts": parts}


def _of_hundred(words: Words, outcome: Outcome) -> tuple[dict[str, int], dict[str, str]]:
    """Return whole numbers for the dots, and the same in words: to the tenth where none or all is not quite so."""
    names = [name for name in _PARTS if name in outcome.parts]
    dots = dict(zip(names, whole([outcome.parts[name] for name in names]), strict=True))
    said = {name: words.number(count) if 0 < count < 100 else words.of_hundred(outcome.parts[name])
            for name, count in dots.items()}  # fmt: skip
    return dots, said


def whole(shares: Sequence[float]) -> list[int]:
    """Return shares as whole numbers that sum to 100. The first is rounded: it never gets what the others lack.

    >>> whole([0.934, 0.0127, 0.0533]), whole([1 / 3, 1 / 3, 1 / 3])
    ([93, 1, 6], [33, 34, 33])
    """
    total = sum(shares) or 1.0
    exact = [100 * share / total for share in shares]
    found = [round(exact[0]) if len(exact) > 1 else 100, *(int(each) for each in exact[1:])]
    order = sorted(range(1, len(exact)), key=lambda i: (found[i] - exact[i], i))
    for i in order[: 100 - sum(found)]:
        found[i] += 1
    return found


def _simple_rules(words: Words, measured: Measured) -> list[Block]:
    rules = measured.rules
    if rules is None or not rules.baselines:
        return [_text(words("no simple"))]
    rows = [_bar(words, words("this model"), rules.value, rules.low, rules.high, is_ours=True)]
    rows += [_bar(words, words.known(name), value) for name, value in rules.baselines.items()]
    sure = [words.known(name) for name in rules.beaten]
    told = [_text(words("better", names=words.listed(sure)))] if sure else []
    told += [_text(line, "warn") for line in _open_rules(words, rules)]
    return [_bars(words("beside simple"), words("simple rules", measure=words.known(rules.measure)), rows), *told]


def _calibration(words: Words, measured: Measured) -> list[Block]:
    error = measured.overall.get("ece")
    if error is None:
        return []
    key = "calibrated" if error < UNCALIBRATED else "not calibrated"
    return [_text(words(key, error=words.of_hundred(error)), None if error < UNCALIBRATED else "warn")]


def _results_table(told: Telling) -> list[Block]:
    results, words = told.evidence.results, told.words
    assert results is not None
    has_interval = any(each.low is not None for each in results.measures)
    has_baseline = any(each.baseline is not None for each in results.measures)
    head = [words("name"), words("value"), *([words("range")] if has_interval else []),
            *([words("baseline")] if has_baseline else [])]  # fmt: skip
    rows = []
    for each in results.measures:
        row = [f"{each.name} ({words(f'{each.better} is better')})", _with_unit(words, each.value, each.unit)]
        if has_interval:
            row.append(_between(words, each))
        if has_baseline:
            row.append(_with_unit(words, each.baseline, each.unit) if each.baseline is not None else words("unknown"))
        rows.append(row)
    blocks = [_table(words("measured by people"), head, rows)]
    if results.baseline:
        blocks.append(_text(words("the baseline", baseline=results.baseline.rstrip("."))))
    return blocks


def _with_unit(words: Words, value: float, unit: str | None) -> str:
    if unit == SHARE:
        return words("of 100", value=words.of_hundred(value))
    return f"{words.number(value)} {unit}" if unit else words.number(value)


def _between(words: Words, measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return words("unknown")
    if measure.unit == SHARE:
        low, high = words.of_hundred(measure.low), words.of_hundred(measure.high)
        return words("between of 100", low=low, high=high)
    low, high = words.number(measure.low), words.number(measure.high)
    return words("between", low=low, high=high) + (f" {measure.unit}" if measure.unit else "")


def _measure_line(words: Words, measure: Measure) -> str:
    value = _with_unit(words, measure.value, measure.unit)
    name = _capital(measure.name)
    if measure.baseline is None:
        return words("measure lead", name=name, value=value)
    beside = _with_unit(words, measure.baseline, measure.unit)
    return words("measure beside", name=name, value=value, baseline=beside)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _open_rules(words: Words, rules: Rules | None) -> list[str]:
    """Return a sentence on the simple rules that the model does not beat, and one on those nobody can tell of."""
    groups = {"not better": rules.behind, "not shown": rules.undecided} if rules is not None else {}
    return [
        words(key, names=words.listed([words.known(name) for name in names])) for key, names in groups.items() if names
    ]


# --- How sure the figures are


def _sure(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    tried = counted(evidence.results)
    blocks: list[Block] = [_interval(words, tried)] if tried is not None else []
    for each in evidence.results.measures if evidence.results is not None else ():
        if each.low is not None:
            blocks.append(_text(words("results interval", name=_capital(each.name), range=_between(words, each))))
        if each.examples is not None:
            blocks.append(
                _text(words("on examples", name=_capital(each.name), count=words.count(each.examples, "example")))
            )
    measured = evidence.measured
    if measured is not None and measured.outcomes:
        first = measured.outcomes[0]
        blocks.append(_interval(words, first))
        if first.high - first.low > WIDE:
            blocks.append(_text(words("wide"), "warn"))
        on = "on test" if measured.split == "test" else "on fair val" if measured.is_cross_fitted else "on val"
        blocks.append(_text(words(on)))
    return [*blocks, _text(words("like these"))] if blocks else [_text(words("sure unknown"), "warn")]


def _interval(words: Words, outcome: Outcome) -> Block:
    low, high = words.of_hundred(outcome.low), words.of_hundred(outcome.high)
    return _text(words("interval", count=words.count(outcome.examples, outcome.kind), low=low, high=high))


# --- Where it is weak


def _weak(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    blocks: list[Block] = []
    results = evidence.results
    if results is not None and results.weak:
        first = results.measures[0]
        rows = [[each.name, _with_unit(words, each.value, first.unit),
                 words.count(each.examples, "example") if each.examples else words("unknown")]
                for each in results.weak]  # fmt: skip
        blocks.append(_table(words("weak results", name=first.name), [], rows))
    if evidence.measured is not None:
        labels = [each for each in evidence.measured.labels if each.examples >= LEAST_EXAMPLES]
        if len(labels) > 1:
            rows_ = [_label_bar(words, each) for each in labels[:SHOWN_WEAK]]
            weak = _surely_weak(evidence.measured)
            said = words("surely weak", labels=words.listed(weak[:SHOWN_WEAK])) if weak else words("maybe weak")
            blocks += [_bars(None, words("weak labels"), rows_), _text(said)]
        elif len(evidence.measured.labels) > 1:
            blocks.append(_text(words("weak few", number=words.number(LEAST_EXAMPLES))))
    parts = _parts_of(evidence)
    if parts and evidence.comparison is not None:
        rows_ = [_bar(words, _part(words, kind, name), value, note=words.count(count, "example"))
                 for kind, name, value, count in parts[:SHOWN_PARTS]]  # fmt: skip
        measure = words.known(evidence.comparison.measure)
        blocks.append(_bars(None, words("weak parts", measure=measure), rows_))
    return blocks or [_text(words("weak unknown"))]


def _label_bar(words: Words, label: Label) -> Block:
    shown = words("at most", value=words.of_hundred(label.share)) if label.least < label.share else None
    note = words.count(label.examples, "example")
    return _bar(words, label.name, label.share, label.low, label.high, note=note, shown=shown)


def _part(words: Words, kind: str, name: str) -> str:
    """Return what a part of a comparison is called, in words of the page."""
    span = _SPAN.fullmatch(name) if kind == "length" else None
    if span is not None:
        name = words("span", low=span[1], high=span[2], unit=words.known(span[3]))
    elif kind == "language":
        name = words.languages([words.known(name)])
    return words(f"part {kind}", name=name)


def _surely_weak(measured: Measured) -> list[str]:
    """Return labels that are found less often than all are on average, by more than chance among so many labels.

    Where only limits of the shares are known, a label's upper one is held against the average of the lower ones.
    """
    labels = [each for each in measured.labels if each.examples >= LEAST_EXAMPLES]
    if len(labels) < 2:
        return []
    mean = sum(each.least for each in labels) / len(labels)
    return [each.name for each in labels
            if at_most(round(each.share * each.examples), each.examples, mean) * len(labels) < SURE]  # fmt: skip


def at_most(found: int, count: int, share: float) -> float:
    """Return how probable so few of so many are by chance (binomial), if each comes with this share.

    >>> round(at_most(1, 2, 0.5), 3), round(at_most(13, 20, 0.93), 4)
    (0.75, 0.0003)
    """
    if found >= count or not 0 < share < 1:
        return 1.0
    # What is left out is beyond ten standard deviations.
    each = np.arange(max(0, found - math.ceil(10 * math.sqrt(count))), found + 1)
    ways = math.lgamma(count + 1) - np.array([math.lgamma(i + 1) + math.lgamma(count - i + 1) for i in each])
    return float(np.exp(ways + each * math.log(share) + (count - each) * math.log1p(-share)).sum())


def _parts_of(evidence: Evidence) -> list[tuple[str, str, float, int]]:
    """Return kind, name, share right and size of the parts of a comparison where this bundle is below its average.

    Only the two best bundles of a comparison have parts.
    """
    comparison, bundle = evidence.comparison, evidence.bundle
    if comparison is None or bundle is None:
        return []
    ours = comparison.of(bundle)
    place = comparison.bundles.index(ours)
    if place > 1:
        return []
    found = [(each.kind, each.name, each.first if place == 0 else each.second, each.examples)
             for each in comparison.parts if each.kind in ("label", "length", "language")]  # fmt: skip
    return sorted((part for part in found if part[2] < ours.value), key=lambda part: part[2])


# --- Beside other models


def _beside(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    blocks: list[Block] = []
    results, comparison, gate = evidence.results, evidence.comparison, evidence.gate
    if results is not None and results.models:
        blocks.append(_models(words, results.measures[0], results.models))
    if comparison is not None and evidence.bundle is not None:
        ours = comparison.of(evidence.bundle)
        rows = [
            _bar(words, each.name, each.value, each.low, each.high, is_ours=each is ours) for each in comparison.bundles
        ]
        lead = words("beside measure", measure=_capital(words.known(comparison.measure)),
                     count=words.count(comparison.examples, "example"))  # fmt: skip
        blocks += [
            _bars(None, lead, rows),
            *(_text(words(key, names=words.listed(names))) for key, names in _ranked(comparison, ours.name).items()),
        ]
        head = [words("bundle"), words("milliseconds"), words("megabytes")]
        costs = [[each.name, words("ms", number=words.number(each.milliseconds)),
                  words("mb", number=words.number(each.megabytes))] for each in comparison.bundles]  # fmt: skip
        blocks.append(_table(None, head, costs))
    if gate is not None:
        is_fine = gate.verdict == "passes" and not gate.is_rolled_back
        blocks.append(_quote(words("gate"), " ".join(_gate_lines(words, gate)), None if is_fine else "warn"))
    return blocks


def _gate_lines(words: Words, gate: Gate) -> list[str]:
    """Return what the gate found, and what came of it."""
    said = {"count": words.count(gate.examples, "example"), "over": f"{gate.over.name} {gate.over.version}"}
    if gate.verdict == "refused":
        said["why"] = words.listed(_failed(words, gate.checks)) if gate.checks else words("fails unknown")
    lines = [words(f"gate {gate.verdict}", **said)]
    lines += [words("gate forced")] if gate.is_forced and gate.promotion is not None else []
    return [*lines, words("gate rolled back")] if gate.is_rolled_back else lines


def _failed(words: Words, checks: Sequence[Check]) -> list[str]:
    """Return what a candidate is refused for."""
    failed = [each for each in checks if each.state == "fails"]
    labels = [words.quoted(each.name) for each in failed if each.kind == "label"]
    named = words.listed(labels) if labels else ""
    if len(labels) > _MOST_NAMED:
        named = f"{', '.join(labels[:_MOST_NAMED])} {words('and more', number=len(labels) - _MOST_NAMED)}"
    known = ("quality", "calibration", "speed", "labels")
    kinds = dict.fromkeys(each.kind if each.kind in known else "unknown" for each in failed if each.kind != "label")
    lines = [words("fails label", names=named)] if labels else []
    return [*(words(f"fails {kind}") for kind in kinds), *lines] or [words("fails unknown")]


def _models(words: Words, first: Measure, models: Iterable[Any]) -> Block:
    shown = list(models)
    ends = [each.high if each.high is not None else each.value for each in shown]
    top = 1.0 if first.unit == SHARE else max([*ends, 0.0]) or 1.0
    best = (min if first.better == "lower" else max)(shown, key=lambda each: each.value)
    rows = [_bar(words, each.name, each.value, each.low, each.high, is_ours=each is best, top=top,
                 shown=_with_unit(words, each.value, first.unit)) for each in shown]  # fmt: skip
    unit = "" if first.unit in (None, SHARE) else f" ({first.unit})"
    better = words(f"{first.better} is better")
    return _bars(None, words("beside results", name=_capital(first.name), unit=unit, better=better), rows)


def _ranked(comparison: Comparison, ours: str) -> dict[str, list[str]]:
    """Return the bundles that ours is better than, worse than, or cannot be told from."""
    groups: dict[str, list[str]] = {"is better": [], "is worse": [], "cannot tell": []}
    for each in comparison.bundles:
        pair = comparison.pair(ours, each.name) if each.name != ours else None
        if pair is not None:
            is_better = pair.first == ours
            groups["cannot tell" if not pair.is_sure else "is better" if is_better else "is worse"].append(each.name)
    return {key: names for key, names in groups.items() if names}


# --- In use


def _use(told: Telling) -> list[Block]:
    found, bundle, words = told.evidence.monitoring, told.evidence.bundle, told.words
    if found is None:
        return [_text(words("use unknown"))] if bundle is not None else []
    is_other = bundle is not None and found.model.version != bundle.version
    blocks = [
        *([_text(words("other version", version=found.model.version), "warn")] if is_other else []),
        _text(words("window", count=words.count(found.window.records, "record"), since=words.date(found.window.since),
                    to=words.date(found.window.to))),
        _text(words(f"state {found.state}"), None if found.state == "quiet" else "warn"),
    ]  # fmt: skip
    moves = [words(each.stat, now=words.of_hundred(each.now), before=words.of_hundred(each.before))
             for each in found.alarms if each.stat in ("no_answer_rate", "mean_confidence")]  # fmt: skip
    blocks += [_list(None, moves)] if moves else []
    if found.state != "too few":
        blocks += [_text(each) for each in _quality_lines(told)]
    if found.groups:
        named = []
        for group in found.groups[:SHOWN_GROUPS]:
            line = words("new group", name=group.name, count=words.count(group.size, "record"))
            text = _short(group.texts[0]) if group.texts else None
            named.append(words("such as", group=line, text=words.quoted(text)) if text else line)
        blocks.append(_list(words("new groups"), named))
    return blocks


def _quality_lines(told: Telling) -> list[str]:
    words = told.words
    quality = told.evidence.monitoring.quality if told.evidence.monitoring is not None else None
    lines = []
    if quality is not None and quality.audited is not None:
        of = quality.audited
        lines.append(words("audited", value=words.of_hundred(of.value), low=words.of_hundred(of.low),
                           high=words.of_hundred(of.high), count=words.count(of.said, "record")))  # fmt: skip
    if quality is not None and quality.corrected is not None:
        lines.append(_feedback(words, "feedback corrected", quality.corrected, quality.said))
    elif quality is not None and quality.value is not None and quality.low is not None and quality.high is not None:
        of = Share(value=quality.value, low=quality.low, high=quality.high)
        lines.append(_feedback(words, "feedback", of, quality.said))
    return lines or [words("no feedback")]


def _feedback(words: Words, key: str, share: Share, said: int) -> str:
    return words(key, value=words.of_hundred(share.value), low=words.of_hundred(share.low),
                 high=words.of_hundred(share.high), count=words.count(said, "record"))  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}…"


# --- What it is worth


def _worth(told: Telling) -> list[Block]:
    assumed, words = told.assumed, told.words
    blocks: list[Block] = [_text(assumed.value)] if assumed.value else []
    if not assumed.is_counted:
        return blocks or [_text(words("worth unknown"))]
    found = main_outcome(told.evidence)
    if found is None:
        return [*blocks, _text(words("worth no share"), "warn")]
    spans = [("per case", 100.0)]
    if assumed.per_day is not None:
        spans = [("per day", assumed.per_day), ("per month", DAYS * assumed.per_day)]
    worths = [worth_of(assumed, found.parts, cases) for _, cases in spans]
    money = assumed.currency
    lines: list[tuple[str, list[str] | None]] = [
        ("right answers", [words.number(each.right, 0) for each in worths]),
        ("wrong answers", _each([each.wrong for each in worths], lambda value: words.number(value, 0))
                          or [words("unknown")] * len(worths)),
        ("hours saved", _each([each.hours for each in worths], words.number)),
        ("money saved", _each([each.saved for each in worths], lambda value: words.money(value, money))),
        ("cost of wrong", _each([each.cost for each in worths], lambda value: words.money(value, money))),
        ("net", _each([each.net for each in worths], lambda value: words.money(value, money))),
    ]  # fmt: skip
    rows = [[words(key), *cells] for key, cells in lines if cells is not None]
    blocks.append(_text(words("worth given", given=words.listed(_given(told)))))
    blocks.append(
        _table(None, [words("per"), *(words(key) for key, _ in spans)], rows, has_sum=worths[0].net is not None)
    )
    if found.kind == "share":
        blocks.append(_text(words("worth of share")))
    per, cases = spans[-1]
    low, high = limits(assumed, found, cases)
    if not found.has_interval:
        blocks.append(_text(words("worth unsure"), "warn"))
    elif low.net is not None and high.net is not None:
        ends = sorted([low.net, high.net])
        least, most = (words.money(end, money) for end in ends)
        blocks.append(_text(words("worth range", low=least, high=most, per=words(per))))
    elif low.hours is not None and high.hours is not None:
        least, most = words.number(low.hours), words.number(high.hours)
        blocks.append(_text(words("worth range hours", low=least, high=most, per=words(per))))
    edge = break_even(assumed, found.parts)
    if edge is not None:
        blocks.append(_text(words("break even", money=words.money(edge, money))))
    if worths[0].net is not None and worths[0].net < 0:
        blocks.append(_text(words("loses"), "warn"))
    return [*blocks, _text(words("worth like these"), "soft")]


def _given(told: Telling) -> list[str]:
    assumed, words = told.assumed, told.words
    found = []
    if assumed.per_day is not None:
        found.append(words("given per day", cases=words.count(assumed.per_day, "results")))
    if assumed.minutes_saved is not None:
        found.append(words("given minutes", minutes=words.count(assumed.minutes_saved, "minute")))
    if assumed.cost_per_hour is not None:
        found.append(words("given hour", money=words.money(assumed.cost_per_hour, assumed.currency)))
    if assumed.cost_of_wrong is not None:
        found.append(words("given wrong", money=words.money(assumed.cost_of_wrong, assumed.currency)))
    return found


def _each(values: Sequence[float | None], show: Callable[[float], str]) -> list[str] | None:
    known = [value for value in values if value is not None]
    return [show(value) for value in known] if len(known) == len(values) else None


# --- Risks


def _risks(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    blocks: list[Block] = []
    if evidence.results is not None and evidence.results.limits:
        blocks.append(_list(words("risk results"), evidence.results.limits))
    if evidence.bundle is None:
        return blocks or [_text(words("risk limits unknown"))]
    config = evidence.bundle.config
    said, not_for = str(config.card.get("limits") or ""), str(config.card.get("not_for") or "")
    blocks += [_quote(words("risk limits"), said)] if said else []
    blocks += [_quote(words("risk not for"), not_for)] if not_for else []
    lines = [] if said or not_for else [words("risk limits unknown")]
    if config.task != "tagging":
        lines.append(words("risk languages", languages=words.languages(config.languages)) if config.languages
                     else words("risk languages unknown"))  # fmt: skip
    foreign = [each for each in (evidence.measured.outcomes if evidence.measured is not None else ())
               if each.kind in ("foreign", "unanswerable")]  # fmt: skip
    lines += [words(f"risk {each.kind}", share=words.of_hundred(each.parts[WRONG])) for each in foreign]
    if not foreign and config.task in ("intent", "qa", "tagging"):
        lines.append(words("risk foreign unknown"))
    watched = evidence.monitoring
    state = (
        words("drift watched", date=words.date(watched.window.to)) if watched is not None else words("drift unwatched")
    )
    lines += [words("risk drift", state=state), words("risk privacy")]
    limited = [
        f"{_origin(words, each)} ({each.get('licence') or words('unknown')})"
        for each in config.provenance.dataset
        if _LIMITED.search(str(each.get("licence") or "unknown"))
    ]
    lines += [words("risk licence", names=words.listed(list(dict.fromkeys(limited))))] if limited else []
    return [*blocks, _list(None, lines)]


# --- What it costs


def _cost(told: Telling) -> list[Block]:
    evidence, words = told.evidence, told.words
    said = evidence.results.cost if evidence.results is not None else None
    unknown = words("unknown")
    minutes = told.training_minutes if told.training_minutes is not None else said.training_minutes if said else None
    rows = [[words("training"), words("minutes", number=words.number(minutes)) if minutes is not None else unknown]]
    size, time = said.megabytes if said else None, said.milliseconds if said else None
    shown_time = words("ms", number=words.number(time)) if time is not None else unknown
    if evidence.bundle is not None:
        config = evidence.bundle.config
        start = config.provenance.start_weights
        rows += [[words("trained on"), words.date(config.provenance.created)],
                 [words("started from"), words("from nothing") if start == "none" else start]]  # fmt: skip
        if size is None and ONNX in config.files:
            size = config.files[ONNX].bytes / 1e6
        if time is None and evidence.milliseconds is not None:
            shown_time = words("measured here", number=words.number(evidence.milliseconds))
    rows += [[words("size"), words("mb", number=words.number(size)) if size is not None else unknown],
             [words("time"), shown_time]]  # fmt: skip
    if evidence.bundle is not None:
        rows.append([words("machine"), words("cpu" if evidence.bundle.config.onnx is not None else "no cpu")])
    rows.append([words("people"), words("people unknown")])
    return [_table(None, [], rows)]


# --- What next


def _next(told: Telling) -> list[Block]:
    """Return what the evidence asks for, the most urgent first."""
    first, groups = _first_things(told), _groups(told.evidence)
    is_fine = not first and "is worse" not in groups
    lines = [*first, *_of_data(told), *_of_others(told.words, groups), *_of_use(told, is_fine=is_fine)]
    results, words = told.evidence.results, told.words
    if not told.assumed.is_counted and not told.assumed.value:
        lines.append(words("next value"))
    blocks = [{"kind": "steps", "items": lines}] if lines else []
    if results is not None and results.recommendations:
        blocks.insert(0, _list(words("recommended"), results.recommendations))
    return blocks


def _first_things(told: Telling) -> list[str]:
    evidence, words = told.evidence, told.words
    lines = []
    if (
        evidence.bundle is not None
        and evidence.results is None
        and not (evidence.measured and evidence.measured.outcomes)
    ):
        lines.append(words("next evaluate"))
    rules = evidence.measured.rules if evidence.measured is not None else None
    if rules is not None and rules.behind:
        lines.append(words("next not better"))
    if rules is not None and rules.undecided:
        lines.append(words("next not shown"))
    lines += _of_gate(words, evidence.gate) if evidence.gate is not None else []
    if evidence.monitoring is not None and evidence.monitoring.state == "alarm":
        lines.append(words("next alarm"))
    audited = evidence.monitoring.quality and evidence.monitoring.quality.audited if evidence.monitoring else None
    if audited and _is_poor(evidence, audited):
        lines.append(words("next poor", value=words.of_hundred(audited.value)))
    found = main_outcome(evidence)
    net = worth_of(told.assumed, found.parts, 100).net if found is not None else None
    if net is not None and net < 0:
        lines.append(words("next loses"))
    return lines


def _of_gate(words: Words, gate: Gate) -> list[str]:
    if gate.is_rolled_back:
        return [words("next rolled back")]
    if gate.is_live:
        return [words("next forced")] if gate.is_forced else []
    if gate.verdict == "undecided":
        return [words("next gate", number=words.number(gate.more)) if gate.more else words("next gate more")]
    return [words("next refused")] if gate.verdict == "refused" else []


def _is_poor(evidence: Evidence, audited: Share) -> bool:
    """Return whether reviewed answers are surely worse than what was measured before, or mostly wrong."""
    before = main_outcome(evidence)
    return audited.high < max(0.5, before.low if before is not None else 0.0)


def _of_data(told: Telling) -> list[str]:
    evidence, words = told.evidence, told.words
    lines = []
    if evidence.monitoring is not None and evidence.monitoring.groups:
        names = [words.quoted(each.name) for each in evidence.monitoring.groups[:2]]
        lines += [words("next groups", names=each) for each in names]
    measured = evidence.measured
    if measured is not None and measured.outcomes:
        first = measured.outcomes[0]
        if measured.split == "val":
            lines.append(words("next test"))
        if first.high - first.low > WIDE:
            lines.append(
                words("next more", number=words.number(4 * first.examples))
            )  # the interval goes by 1 / root of n
        weak = _surely_weak(measured)[:3]
        if weak:
            lines.append(words("next labels", labels=words.listed([words.quoted(each) for each in weak])))
        confused = [each for each in measured.confusions if not (each.is_silence or each.is_foreign)]
        for each in [each for each in confused if each.count >= LEAST_CONFUSED][:2]:
            lines.append(words("next confused", label=words.quoted(each.label), given=words.quoted(str(each.given))))
    if evidence.comparison is not None and not (measured and measured.labels):
        measure = words.known(evidence.comparison.measure)
        for kind, name, value, _ in _parts_of(evidence)[:1]:
            part = _part(words, kind, name)
            lines.append(words("next parts", name=part, value=words.of_hundred(value), measure=measure))
    return lines


def _groups(evidence: Evidence) -> dict[str, list[str]]:
    if evidence.comparison is None or evidence.bundle is None:
        return {}
    return _ranked(evidence.comparison, evidence.comparison.of(evidence.bundle).name)


def _of_others(words: Words, groups: dict[str, list[str]]) -> list[str]:
    if "is worse" in groups:
        return [words("next other", name=groups["is worse"][0])]
    return [words("next cannot tell", names=words.listed(groups["cannot tell"]))] if "cannot tell" in groups else []


def _of_use(told: Telling, *, is_fine: bool) -> list[str]:
    """Return what to do in use; `is_fine` says that nothing speaks against letting it work."""
    evidence, words = told.evidence, told.words
    if evidence.bundle is None:
        return []
    found = evidence.monitoring
    if found is None:
        return [words("next monitor")] if is_fine else []
    lines = [words("next few")] if found.state == "too few" and found.window.records < _LEAST_RECORDS else []
    if found.quality is None or found.quality.audited is None:
        lines.append(words("next review"))
    return [*lines, words("next quiet")] if found.state == "quiet" and is_fine else lines


# --- Blocks


def _text(text: str, tone: str | None = None) -> Block:
    return {"kind": "text", "text": text, "tone": tone}


def _quote(title: str, text: str, tone: str | None = None) -> Block:
    return {"kind": "quote", "title": title, "text": text, "tone": tone}


def _list(title: str | None, items: Sequence[str], most: int | None = None, words: Words | None = None) -> Block:
    shown = list(items[:most])
    if words is not None and len(items) > len(shown):
        shown.append(words("and more", number=words.number(len(items) - len(shown))))
    return {"kind": "list", "title": title, "items": shown}


def _table(title: str | None, head: Sequence[str], rows: Sequence[Sequence[str]], has_sum: bool = False) -> Block:
    return {"kind": "table", "title": title, "head": list(head), "rows": rows, "has_sum": has_sum}


def _bars(title: str | None, text: str, rows: Sequence[Block]) -> Block:
    return {"kind": "bars", "title": title, "text": text, "rows": rows}


def _bar(
    words: Words,
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    note: str | None = None,
    is_ours: bool = False,
    top: float = 1.0,
    shown: str | None = None,
) -> Block:
    """Return one bar, in percent of the longest there could be."""

    def place(end: float) -> float:
        return round(100 * min(max(end / top, 0.0), 1.0), 2)

    return {
        "name": name, "at": place(value), "low": None if low is None else place(low),
        "high": None if high is None else place(high), "shown": shown or words.of_hundred(value), "note": note,
        "is_ours": is_ours,
    }  # fmt: skip
