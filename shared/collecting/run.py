"""Runs a collection: from sources to steps in the journal, from the journal to a dataset."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute
from tqdm import tqdm

from shared.collecting.journal import Counts, Journal, journal_folder, open_journal
from shared.collecting.spec import CollectSpec, reader_of, spec_digest
from shared.dataset.columns import kinds_of, to_table, unified, widened
from shared.dataset.layout import LICENCE, PLACE, PROVENANCE, SHA256, SOURCE, TIME
from shared.dataset.read import Dataset, is_dataset, read_dataset
from shared.dataset.write import check_target, write_dataset
from shared.errors import ConfigError, DataError
from shared.sources.places import PhotoFolder
from shared.sources.steps import Found, Secrets, SetAside, SourceSpec, Step, picked
from shared.sources.tables import Row
from shared.sources.web import WebSpec

SPLIT = "_split"
"""A column of the journal's tables alone."""
_DEFAULT_SPLIT = "train"
_SHOWN_ROW = 2_000
"""Characters of what was set aside and cannot be written as it is."""
_SHOWN_FAILURES = 3
_ALLOWED_ROWS = 3
"""So many malformed rows of a source are no reason to stop, however few rows there are."""
_SHOWN_COLUMNS = 20
_DEPTH = 3
_KNOWN_PATHS = 500
"""Columns and places in objects that are kept in mind while a column is missing."""
_JUDGED_ROWS = 1_000
"""After so many rows it is clear whether too many are malformed."""


@dataclass(frozen=True)
class Collected:
    """What came of a collection."""

    dataset: Dataset
    counts: dict[str, Counts]
    """Source -> how much of it."""
    notes: tuple[str, ...] = ()
    """What was recognised and could be wrong, one line each."""

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.counts.values())


def collect(
    spec: CollectSpec,
    base: Path,
    out: Path,
    *,
    photos: PhotoFolder,
    photo_suffixes: frozenset[str],
    restart: bool = False,
    secrets: Secrets | None = None,
) -> Collected:
    """Return the dataset that was collected to `out`; goes on where an earlier run was stopped.

    Args:
        spec: what to collect.
        base: the folder below which its paths are.
        out: the dataset's folder; an older dataset there is refused, unless its own collection goes on.
        photos: reads folders of photos.
        photo_suffixes: of files that are photos.
        restart: forget what an earlier run has kept, and replace what it wrote.
        secrets: values of the environment.

    Raises:
        ConfigError: the spec cannot be met, or `out` cannot be written.
        DataError: a source cannot be read on; what was read is kept, and the same command goes on.
    """
    secrets = secrets or Secrets()
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    readers = [reader_of(source, base, secrets, photos, photo_suffixes) for source in spec.sources]
    with open_journal(out) as journal:
        if restart:
            journal.forget_all()
        _check_same(journal, spec, out, restart)
        started = journal.meta("started", _now())
        journal.forget_failed()
        notes: list[str] = []
        for number, (name, source, reader) in enumerate(zip(spec.names(), spec.sources, readers, strict=True)):
            if journal.is_finished(number):
                continue
            if not reader.resumes:
                journal.forget(number)
            intake = _Intake(spec, source, name, journal, number)
            with tqdm(desc=name, unit=" rows", initial=journal.counts(number).rows, dynamic_ncols=True) as bar:
                for step in reader.steps(journal.done(number)):
                    intake.take(step, secrets)
                    bar.update(len(step.found))
                    bar.set_postfix_str(intake.shown, refresh=False)
            intake.judge()
            journal.finish(number)
            notes += intake.notes
        collected = replace(_assemble(journal, spec, out, started), notes=tuple(notes))
        if not collected.failed:
            journal.delete()
    return collected


def made_before(spec: CollectSpec, out: Path) -> Dataset | None:
    """Return the dataset that this very spec has made there, whole; None if it is to be collected."""
    if not is_dataset(out) or journal_folder(out).exists():
        return None
    found = read_dataset(out)
    return found if found.info.history[0].get("spec") == _written_spec(spec) else None


class _Intake:
    """Turns the rows of one source into what is kept."""

    def __init__(self, spec: CollectSpec, source: SourceSpec, name: str, journal: Journal, number: int) -> None:
        self.spec, self.source, self.name, self.journal, self.number = spec, source, name, journal, number
        counts = journal.counts(number)
        self.rows, self.aside, self.failed = counts.rows, counts.set_aside, counts.failed
        self.malformed = counts.malformed
        self.reasons: Counter[str] = Counter()
        self.notes: dict[str, None] = {}
        self.absent = set((source.columns or {}).values()) if not counts.rows else set()
        self.present: dict[str, None] = {}

    @property
    def shown(self) -> str:
        return f"{self.aside} set aside, {self.failed} failed"

    def take(self, step: Step, secrets: Secrets) -> None:
        """Keep a step.

        Raises:
            DataError: too many of its rows are malformed.
        """
        time = _now()
        rows: list[Row] = []
        for found in step.found:
            try:
                rows.append(self._row(found, time, secrets))
            except DataError as error:
                step.set_aside.append(SetAside(found.place, str(error), found.row))
        step.set_aside = [
            SetAside(
                _whole(secrets.mask(each.place)),
                _whole(secrets.mask(each.reason)),
                secrets.masked(_plain(each.row)),
                each.is_malformed,
            )
            for each in step.set_aside
        ]
        step.failed = _whole(secrets.mask(step.failed)) if step.failed else None
        self.notes.update(dict.fromkeys(step.notes))
        columns = kinds_of(rows)
        self.journal.add(self.number, step, to_table(rows, columns), columns)
        self.rows += len(rows)
        self.aside += len(step.set_aside)
        self.malformed += sum(each.is_malformed for each in step.set_aside)
        self.failed += step.failed is not None
        self.reasons.update(each.reason for each in step.set_aside if each.is_malformed)
        if self.rows + self.malformed >= _JUDGED_ROWS:
            self.judge(is_whole=False)

    def judge(self, *, is_whole: bool = True) -> None:
        """Raise DataError if too many rows are malformed, or a column is nowhere."""
        whole = self.rows + self.malformed
        share = self.malformed / max(1, whole)
        is_over = share > self.spec.max_left_out and (self.malformed > _ALLOWED_ROWS or (is_whole and not self.rows))
        if is_over and not isinstance(self.source, WebSpec):
            reasons = self.reasons or Counter(e.reason for e in self.journal.set_aside(self.number) if e.is_malformed)
            reason, count = reasons.most_common(1)[0]
            verb = "is" if self.malformed == 1 else "are"
            raise DataError(
                f"{self.name}: {self.malformed:,} of {whole:,} rows {verb} malformed, {share:.1%}; allowed are "
                f"{self.spec.max_left_out:.1%}. Most often ({count:,}): {reason.rstrip('.')}. Correct the source "
                "and run the command with --restart, or allow more with `max_left_out` in the spec and run it again: "
                f"it goes on. What was read so far is in the hidden folder {self.journal.folder}."
            )
        if is_whole and self.rows and self.absent:
            raise DataError(self._said_absent(sorted(self.absent)[0]))

    def _said_absent(self, path: str) -> str:
        """Return that no row has what `columns` asks for, and what the rows have instead."""
        names = list(self.present)
        near = difflib.get_close_matches(path.casefold(), [name.casefold() for name in names], 1)
        meant = [repr(name) for name in names if near and name.casefold() == near[0]][:1]
        more = f" and {len(names) - _SHOWN_COLUMNS:,} more" if len(names) > _SHOWN_COLUMNS else ""
        return (f"{self.name}: no row has {path!r}, which `columns` asks for"
                f"{f'; did you mean {meant[0]}?' if meant else '.'} The rows have "
                f"{', '.join(map(repr, names[:_SHOWN_COLUMNS]))}{more}. Correct the spec and run the command with "
                f"--restart. What was read so far is in the hidden folder {self.journal.folder}.")  # fmt: skip

    def _row(self, found: Found, time: str, secrets: Secrets) -> Row:
        whole = dict(found.row)
        is_whole = found.is_of_dataset and whole.keys() >= set(PROVENANCE)
        origin = {name: whole.pop(name) for name in PROVENANCE} if is_whole else None
        if self.absent and len(self.present) < _KNOWN_PATHS:
            self.present.update(dict.fromkeys(_paths(whole)))
        row = whole if self.source.columns is None else self._picked(whole)
        row = {str(name) or "unnamed": value for name, value in row.items()}
        reserved = [name for name in row if name in (*PROVENANCE, SPLIT)]
        if reserved:
            raise DataError(f"its column {reserved[0]!r} is one of our own: rename it with `columns`")
        row.update(self.source.add)
        content = _content(row)
        if secrets.are_in(content):  # a server may say again what it was told
            row = secrets.masked(row)
            content = _content(row)
        digest = hashlib.sha256(content).hexdigest()
        row[SPLIT] = self.source.split or found.split or _DEFAULT_SPLIT
        if origin is not None:  # a row of a dataset, which knows where it is from
            return row | origin
        return {
            **row,
            SOURCE: self.name,
            PLACE: _whole(secrets.mask(found.place)),
            TIME: time,
            LICENCE: found.licence,  # or the spec's, when the dataset is written: the spec may say another until then
            SHA256: digest,
        }

    def _picked(self, row: Row) -> Row:
        found = {}
        for name, path in (self.source.columns or {}).items():
            try:
                found[name] = picked(row, path)
                self.absent.discard(path)
            except KeyError:
                found[name] = None
        return found


def row_digest(row: Row) -> str:
    """Return the SHA-256 of a row's content: the same for equal rows of any source."""
    return hashlib.sha256(_content(row)).hexdigest()


def _content(row: Row) -> bytes:
    """Return a row as JSON, sorted.

    Raises:
        DataError: no file can hold it: half a character, or objects nested without end.
    """
    try:
        return orjson.dumps(row, default=_written, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # whole numbers of more than 64 bits, deep objects, and half characters
        pass
    try:
        return json.dumps(row, default=_written, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"it has half a character in it, {error.object[error.start : error.end]!r}, which no file can "
                        "hold: the source has cut or mixed up a text") from error  # fmt: skip
    except (RecursionError, TypeError) as error:
        raise DataError(f"it cannot be written as JSON: {error}") from error


def _written(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _plain(row: Any) -> Any:
    """Return a row as JSON can hold it, without the bytes of photos."""
    if row is None:
        return None
    try:
        return orjson.loads(orjson.dumps(row, default=_written, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, orjson.JSONDecodeError):
        return ascii(row)[:_SHOWN_ROW]


def _whole(text: str) -> str:
    """Return a text that any file can hold: file names may have bytes in them that are no characters."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _check_same(journal: Journal, spec: CollectSpec, out: Path, restart: bool) -> None:
    is_new = journal.is_new
    if is_new and is_dataset(out) and not restart:
        journal.delete()
        raise ConfigError(f"{out} is a dataset already, and datasets are not edited in place. Name another folder, or "
                          "replace it with --restart.")  # fmt: skip
    if journal.meta("spec", spec_digest(spec)) != spec_digest(spec):
        raise ConfigError(f"the spec was changed since the collection to {out} began; only `max_left_out` and licences "
                          "may change while it goes on. Start again with --restart, or name another folder. What was "
                          f"read so far is in the hidden folder {journal.folder}.")  # fmt: skip


def _assemble(journal: Journal, spec: CollectSpec, out: Path, started: str) -> Collected:
    names = spec.names()
    counts = {name: journal.counts(number) for number, name in enumerate(names)}
    columns = unified(journal.columns())
    if not columns:
        failures = [line for number in range(len(names)) for line in journal.failures(number)]
        why = "".join(f"\n{place}: {reason}" for place, reason in failures[:_SHOWN_FAILURES])
        raise DataError(f"no row was found in {', '.join(names)}.{why}")
    columns.pop(SPLIT)
    columns = {name: kind for name, kind in columns.items() if name not in PROVENANCE} | dict.fromkeys(
        PROVENANCE, "text"
    )
    event = {
        "step": "collect",
        "time": started,
        "sources": [
            {"name": name, "kind": source.kind, "rows": counts[name].rows, "set_aside": counts[name].set_aside,
             "failed": counts[name].failed, "licence": spec.licence_of(source), "origin": source.origin or ""}
            for name, source in zip(names, spec.sources, strict=True)
        ],
        "spec": _written_spec(spec),
    }  # fmt: skip
    left_out = (
        {SOURCE: name, PLACE: each.place, "step": "collect", "reason": each.reason, "row": each.row}
        for number, name in enumerate(names)
        for each in journal.set_aside(number)
    )
    failed = [
        {"source": name, "place": key, "reason": reason, "remedy": "run the same command again: it tries these again"}
        for number, name in enumerate(names)
        for key, reason in journal.failures(number)
    ]
    dataset = write_dataset(
        out,
        _parts(journal, columns, [spec.licence_of(source) for source in spec.sources]),
        name=spec.name,
        columns=columns,
        history=[event],
        left_out=left_out,
        failed=failed,
    )
    return Collected(dataset, counts)


def _parts(journal: Journal, columns: dict[str, str], licences: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    for source, table, kinds in journal.tables():
        splits = table.column(SPLIT)
        for split in splits.unique().to_pylist():
            part = table.filter(pa.compute.equal(splits, split)) if len(splits.unique()) > 1 else table
            made = widened(part.drop_columns([SPLIT]), kinds, columns)
            filled = pa.compute.fill_null(made.column(LICENCE), licences[source])
            yield split, made.set_column(made.schema.get_field_index(LICENCE), made.schema.field(LICENCE), filled)


def _paths(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield what `columns` can ask for in a row, with dots into objects."""
    for name, value in row.items():
        yield f"{before}{name}"
        if isinstance(value, Mapping) and before.count(".") < _DEPTH:
            yield from _paths(value, f"{before}{name}.")


def _written_spec(spec: CollectSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
