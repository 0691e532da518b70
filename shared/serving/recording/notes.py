"""What is noted of an answer while a request is answered; `shared.records` writes it later.

`Recording` is the layer that leaves a `Notes` for each request, and the engines note there what they answered. Without
the setting `records` there is no layer, and `noting()` is None.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, TypeVar

import numpy as np
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.bundle.read import Bundle
from shared.errors import ConfigError, Forbidden, Overloaded, ServiceError
from shared.records.record import LEVELS, Level, Record
from shared.serving.http.limits import Admission
from shared.serving.http.requests import CALLER, REQUEST_ID
from shared.serving.observe import metrics
from shared.serving.settings import PREFIX, Settings

if TYPE_CHECKING:  # SQLAlchemy need not be installed
    from PIL import Image

    from shared.records.store import Store
    from shared.records.writer import RecordWriter

SUBJECT, CONSENT = b"x-subject", b"x-consent"
MAX_SUBJECT_CHARS = 256
UNSURE = frozenset({"out_of_scope", "untagged", "unanswerable"})
"""Outcomes that are kept always."""
_YES = frozenset({"yes", "true", "1"})
_CLOSE_S = 5.0
_THREADS = 2
_MAX_ASKING = 64
"""Requests that may wait for the store in one worker."""
_random = random.Random()  # draws samples, guards nothing
Done = TypeVar("Done")
_log = logging.getLogger(__name__)


class Answering(Protocol):
    """What a note says of a model."""

    name: str
    version: str
    bundle: Bundle
    admission: Admission


class Answered(TypedDict):
    """What a note says of one answer."""

    outcome: str
    """As in the metrics."""
    confidence: float | None
    """Of the best label or answer, given or not; None without any."""
    labels: NotRequired[Sequence[str]]
    """Those that the model gives by its own rule, the most probable first."""
    scores: NotRequired[Sequence[float]]
    """Of these."""
    out_of_scope_score: NotRequired[float]


class Silent(Protocol):
    """Has a candidate answer again what the live model was asked: `shadow.Shadow`."""

    def wants(self, version: str, /) -> bool:
        """Return whether it gets an item that this version answered."""
        ...

    def offer(self, record: Record, again: Any, is_busy: Callable[[], bool], /) -> None:
        """Have the item answered again."""
        ...

    def close(self) -> None:
        """Drop what waits, and free the candidate."""
        ...


class Recorder:
    """Decides what of an answer is kept, and hands it to the writer.

    Args:
        url: of the store.
        level: how much of an item is kept.
        share: of the items that are sure.
        sure_from: confidence from which an item is sure.
        days: older records are deleted; None for never.
    """

    def __init__(self, url: str, level: Level, share: float, sure_from: float, days: int | None) -> None:
        self._url = url
        self._days = days
        self._share = share
        self._sure_from = sure_from
        self.has_features = LEVELS.index(level) >= LEVELS.index("features")
        self.has_inputs = LEVELS.index(level) >= LEVELS.index("inputs")
        self.shadows: dict[str, Silent] = {}
        """Task -> the candidate that answers again what this task's model was asked."""
        self._writer: RecordWriter | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self._asking = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what is noted for as long as the context lasts, and at its end what still waits."""
        self._writer = await asyncio.to_thread(self._open)
        self._writer.start()
        try:
            yield
        finally:
            for shadow in self.shadows.values():
                await asyncio.to_thread(shadow.close)
            self.shadows.clear()
            writer, self._writer = self._writer, None
            await asyncio.to_thread(writer.close, _CLOSE_S)

    def _open(self) -> RecordWriter:
        from shared.records.store import Store
        from shared.records.writer import RecordWriter

        store = Store(self._url)
        _log.info("answers are recorded", extra={"store": store.place})
        return RecordWriter(store, days=self._days, on_written=metrics.RECORDS_WRITTEN.inc, on_lost=count_lost)

    def sample(self) -> bool:
        """Return whether the sure items of a request are kept."""
        return self._share >= 1 or _random.random() < self._share

    def share_of(self, outcome: str, confidence: float | None) -> float:
        """Return the chance that such an item is kept: 1 unless it is sure."""
        is_sure = outcome not in UNSURE and confidence is not None and confidence >= self._sure_from
        return self._share if is_sure else 1.0

    def put(self, record: Record) -> None:
        """Have a record written."""
        if self._writer is not None:
            self._writer.put(record)

    async def ask(self, ask: Callable[[Store], Done]) -> Done:
        """Return what is asked of the store, without holding up anything else.

        Raises:
            Overloaded: many wait for the store already.
            ServiceError: the store cannot do it now.
        """
        from shared.records.store import StoreError

        writer = self._writer
        if writer is None:
            raise ServiceError("the service is starting or shutting down. Send the request again.")
        if self._asking >= _MAX_ASKING:
            raise Overloaded(f"{self._asking} requests wait for the store of records. Send it again later.")
        self._asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask, writer.store)
        except StoreError as error:
            _log.error("the store of records did not do it (%s): %s", error.reason, error)
            raise ServiceError(
                f"the store of records cannot do this now ({error.reason}). Nothing was changed; send it again later."
            ) from error
        finally:
            self._asking -= 1


def count_lost(reason: str, count: int = 1) -> None:
    """Count records that were not kept."""
    metrics.RECORDS_LOST.labels(reason).inc(count)


class Notes:
    """What may be noted of one request.

    Args:
        recorder: takes the notes.
        scope: of the request.
    """

    __slots__ = ("_again", "_is_sampled", "_may_keep", "consent", "kept_items", "recorder", "scope", "subject")

    def __init__(self, recorder: Recorder, scope: Scope) -> None:
        self.recorder = recorder
        self.scope = scope
        self.kept_items: set[int] = set()
        self._may_keep: bool | None = None
        self._is_sampled: bool | None = None
        self._again: list[tuple[Silent, Record, Any, Answering]] = []
        self.subject: str | None = None
        self.consent: bool | None = None

    @property
    def request_id(self) -> str:
        """The request's id."""
        return str(self.scope.get(REQUEST_ID, ""))

    @property
    def has_photos(self) -> bool:
        """Whether photos are kept."""
        return self.recorder.has_inputs and self.may_keep

    @property
    def may_keep(self) -> bool:
        """Whether anything of this request may be kept, as its headers say."""
        if self._may_keep is None:
            self._read_headers()
        return bool(self._may_keep)

    def keep(
        self,
        model: Answering,
        item: int,
        outcome: str,
        *,
        confidence: float | None,
        labels: Sequence[str] = (),
        scores: Sequence[float] = (),
        out_of_scope_score: float | None = None,
        features: np.ndarray | None = None,
        text: str | None = None,
        context: str | None = None,
        answer: str | None = None,
        photo: Image.Image | None = None,
        size: tuple[int, int] | None = None,
        again: Any = None,
    ) -> None:
        """Note one answered item, as far as the level goes; never fails, because the answer does not depend on it.

        Args:
            model: which answered.
            item: its place among the items of the request.
            outcome: as in the metrics.
            confidence: of the best label or answer, given or not; None without any.
            labels: those that the model gives by its own rule, the most probable first.
            scores: of these.
            out_of_scope_score: if the model has one.
            features: [D], if the network gives them.
            text: the utterance or the question.
            context: which the answer is from.
            answer: its words.
            photo: as it was decoded.
            size: width and height of the photo as it came.
            again: what a candidate takes to answer the same item; None if none is to.
        """
        try:
            if not self.may_keep:
                return
            recorder = self.recorder
            share = recorder.share_of(outcome, confidence)
            if share < 1:
                if self._is_sampled is None:
                    self._is_sampled = recorder.sample()
                if not self._is_sampled:
                    return
            caller = self.scope.get(CALLER)
            has_inputs = recorder.has_inputs
            self.kept_items.add(item)
            record = Record(
                request_id=self.request_id,
                item=item,
                seconds=time.time(),
                key=caller.name if caller is not None else "",
                task=model.bundle.config.task,
                model=model.name,
                version=model.version,
                outcome=outcome,
                labels=labels,
                scores=scores,
                confidence=confidence,
                out_of_scope_score=out_of_scope_score,
                share=share,
                subject=self.subject,
                consent=self.consent,
                characters=len(text) if text is not None else None,
                context_characters=len(context) if context is not None else None,
                width=size[0] if size else None,
                height=size[1] if size else None,
                features=features if recorder.has_features else None,
                text=text if has_inputs else None,
                context=context if has_inputs else None,
                answer=answer if has_inputs else None,
                photo=photo if has_inputs else None,
            )
            recorder.put(record)
            shadow = recorder.shadows.get(record.task) if recorder.shadows and again is not None else None
            if shadow is not None and shadow.wants(record.version):
                self._again.append((shadow, record, again, model))
        except Exception as error:  # noqa: BLE001 whatever it is, it costs a record and not the answer
            count_lost("failed")
            _log.error("an answer could not be noted: %s", type(error).__name__)

    def leave(self) -> None:
        """Have the candidates answer again, now that the answer has left."""
        for shadow, record, again, model in self._again:
            shadow.offer(record, again, lambda admission=model.admission: admission.in_hand > 0)  # type: ignore[misc]

    def _read_headers(self) -> None:
        subjects = [value for name, value in self.scope["headers"] if name == SUBJECT]
        consents = [value for name, value in self.scope["headers"] if name == CONSENT]
        self._may_keep = all(is_yes(value) for value in consents)
        self.consent = True if consents else None
        if len(subjects) > 1 or (subjects and len(text_of(subjects[0])) > MAX_SUBJECT_CHARS):
            count_lost("subject")  # of whom it is cannot be told later, and so not be deleted
            self._may_keep = False
        elif subjects and subjects[0].strip():
            self.subject = text_of(subjects[0])


def is_yes(header: bytes) -> bool:
    """Return whether a header X-Consent allows to keep something; whatever is not a yes is a no.

    >>> is_yes(b" Yes"), is_yes(b"no"), is_yes(b"")
    (True, False, False)
    """
    return header.decode("latin-1").strip().lower() in _YES


def text_of(header: bytes) -> str:
    """Return a header's text, which is UTF-8 or else Latin-1.

    >>> text_of("Zoë ".encode()), text_of("Zoë".encode("latin-1"))
    ('Zoë', 'Zoë')
    """
    try:
        return header.decode("utf-8").strip()
    except UnicodeDecodeError:
        return header.decode("latin-1").strip()


_NOTES: ContextVar[Notes | None] = ContextVar("notes", default=None)


def noting() -> Notes | None:
    """Return where to note what this request is answered; None where nothing is recorded."""
    return _NOTES.get()


class Recording:
    """The layer that lets answers be noted.

    Args:
        recorder: takes the notes.
    """

    def __init__(self, app: ASGIApp, *, recorder: Recorder) -> None:
        self.app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # not reset: a request has a task of its own, or is followed by one that sets it
            notes = Notes(self._recorder, scope)
            _NOTES.set(notes)
            await self.app(scope, receive, send)
            notes.leave()
        else:
            await self.app(scope, receive, send)


def recorder_of(settings: Settings) -> Recorder | None:
    """Return what records the answers of a service with these settings, always the same; None if nothing does."""
    if settings.records is None:
        return None
    return _recorder(
        settings.records.get_secret_value(),
        settings.records_level,
        settings.records_share,
        settings.records_sure_from,
        settings.records_days,
    )


_recorder = lru_cache(maxsize=None)(Recorder)


def check_records(settings: Settings) -> None:
    """Refuse the setting `records` where what it needs is not installed.

    Raises:
        ConfigError: says what to install, or that the URL is wrong.
    """
    if settings.records is None:
        return
    needed = {"sqlalchemy": "records", "alembic": "records"}
    if settings.records.get_secret_value().startswith("postgresql"):
        needed["psycopg"] = "records,postgres"
    for module, extra in needed.items():
        if find_spec(module) is None:
            raise ConfigError(
                f"{PREFIX}RECORDS needs {module}, which is not installed. Run: pip install 'percept[{extra}]'"
            )

    from shared.records.store import check_url

    check_url(settings.records.get_secret_value())


def needed(recorder: Recorder | None) -> Recorder:
    """Return the recorder, or raise Forbidden where nothing is recorded."""
    if recorder is None:
        raise not_recording()
    return recorder


def not_recording() -> Forbidden:
    """Return the error of a service that records nothing."""
    return Forbidden(f"this service keeps no records. Set {PREFIX}RECORDS and restart it.")
