"""What one request costs a worker, in CPU seconds and memory: honest ones, hostile ones, and mutations of the dearest.

A server with the starter models and one worker gets each request alone. Its CPU time is that of all its threads and of
the processes that it started and ended; its memory is the rise of its high-water mark, which Linux sets back on demand.
Each is compared with an honest request of as many items, characters or pixels. Then the dearest for their length are
mutated, and what is dearer still takes their place.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from shared.project import PROJECT_ROOT
from tests.fuzz.images import _ANY, bomb, png_chunk
from tests.server import Server

MAX_CPU_S, MAX_MB, MAX_RATIO = 4.0, 300.0, 10.0
"""Of one request; the last to an honest one of as many items, characters or pixels, which counts 0.05 s at least."""
_LEAST_CPU_S = 0.05
_QUIET_S = 0.05
_MAX_MUTANT_BYTES = 4 << 20
SHOWN = 10
JSON, FORM = "application/json", "multipart/form-data; boundary=cut"
BEGIN, END = "<!-- costs: written by `make fuzz ARGS=--publish` -->", "<!-- end of costs -->"


@dataclass(frozen=True, eq=False)
class Sent:
    """A request, and the honest one that it is compared with; None for an honest one."""

    route: str
    kind: str
    body: bytes = field(repr=False)
    content_type: str = JSON
    honest: Sent | None = field(default=None, repr=False)
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    made: Callable[[Server], bytes] | None = field(default=None, repr=False)
    """Gives the body each time it is sent, of one that holds only once; before the measurement begins."""


@dataclass(frozen=True)
class Cost:
    """What a request cost."""

    sent: Sent
    status: int
    cpu_s: float
    mb: float
    ratio: float | None
    """Of CPU seconds to the honest request's; None for an honest one."""

    def is_within(self, slowness: float = 1.0) -> bool:
        """Return whether it is within the bounds; `slowness` is how often longer this machine takes than ours."""
        is_quick = self.cpu_s <= MAX_CPU_S * slowness and (self.ratio or 0) <= MAX_RATIO
        return is_quick and self.mb <= MAX_MB and self.status < 500

    @property
    def line(self) -> str:
        """A row of a table."""
        ratio = "honest" if self.ratio is None else f"{self.ratio:.1f} ×"
        cells = (f"`{self.sent.route}`", self.sent.kind, f"{len(self.sent.body):,}", self.status, f"{self.cpu_s:.2f}")
        return f"| {' | '.join(map(str, cells))} | {self.mb:.0f} | {ratio} |"


HEAD = "| route | request | bytes | answer | CPU s | MB | to an honest one |\n| --- | --- |" + 5 * " ---: |"


class Meter:
    """Sends requests to a server with one worker and says what each cost.

    Args:
        server: answers, and is asked by nobody else.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        (self.pid,) = server.workers
        self._proc = Path("/proc") / str(self.pid)
        self._honest: dict[Sent, float] = {}
        for _ in range(2):  # the first of each kind makes threads and fills caches
            for sent in honest_requests().values():
                self._send(sent)

    def __call__(self, sent: Sent) -> Cost:
        """Return the cost of a request."""
        status, cpu_s, mb = self._send(sent)
        if sent.honest is None:
            return Cost(sent, status, cpu_s, mb, None)
        if sent.honest not in self._honest:
            self._honest[sent.honest] = max(self._send(sent.honest)[1], _LEAST_CPU_S)
        return Cost(sent, status, cpu_s, mb, cpu_s / self._honest[sent.honest])

    def _send(self, sent: Sent) -> tuple[int, float, float]:
        body = sent.made(self.server) if sent.made else sent.body
        self._settled()
        (self._proc / "clear_refs").write_text("5")  # VmHWM starts again (man 5 proc)
        before, began = self._memory_mb("VmRSS"), self._cpu_s()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        try:
            connection.request(sent.method, sent.route, body, {"content-type": sent.content_type, **sent.headers})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0  # cut off
        finally:
            connection.close()
        self._settled()
        return status, self._cpu_s() - began, max(self._memory_mb("VmHWM") - before, 0.0)

    def _cpu_s(self) -> float:
        threads = sum(_nanoseconds(task) for task in (self._proc / "task").iterdir()) / 1e9
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return threads + (int(fields[13]) + int(fields[14])) / 100  # cutime and cstime, in ticks

    def _memory_mb(self, name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def _settled(self) -> None:
        """Wait until the worker does nothing any more: work may outlive its answer."""
        last = self._cpu_s()
        while True:
            time.sleep(_QUIET_S)
            now = self._cpu_s()
            if now - last < 0.2 * _QUIET_S:
                return
            last = now


def _nanoseconds(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:  # it ended
        return 0


def _json(route: str, kind: str, content: object, honest: Sent | None = None) -> Sent:
    return Sent(route, kind, json.dumps(content, ensure_ascii=False).encode(), honest=honest)


def words_of(characters: int) -> str:
    return ("where can I book a table for two people near the old harbour " * (characters // 60 + 1))[:characters]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@cache
def photo_of(side: int, is_progressive: bool = False) -> bytes:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    image = small.resize((side, side), Image.Resampling.BICUBIC)
    return encoded(image, "JPEG", quality=90, progressive=is_progressive)


def _drawn() -> bytes:
    return encoded(Image.new("RGB", (6300, 6300), (9, 90, 9)), "PNG")


def _form(*parts: bytes) -> bytes:
    head = b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return b"".join(head + part + b"\r\n" for part in parts) + b"--cut--\r\n"


CONTEXT = 25_000


@cache
def honest_requests() -> dict[str, Sent]:
    """Return kind -> an honest request; made once, in some seconds."""
    return {
        sent.kind: sent
        for sent in (
            _json("/v1/intent", "a sentence", {"text": words_of(60)}),
            _json("/v1/intent", "64 texts of 2,000 characters", {"texts": [words_of(2000)] * 64}),
            _json("/v1/answer", "a context of 25,000 characters", {"question": "Who?", "context": words_of(CONTEXT)}),
            _json("/v1/answer", "a question to the knowledge base", {"question": "How many images may I send?"}),
            _json("/v1/answer", "with 20 passages", {"question": "How many images may I send?", "passages": 20}),
            _json("/v1/understand", "a question", {"text": "How many images may one request hold?"}),
            _json("/v1/embed", "64 texts of 390 characters", {"texts": [words_of(390)] * 64}),
            _json("/openai/v1/chat/completions", "a chat",
                  {"model": "percept-qa", "messages": [{"role": "user", "content": "How many images may I send?"}]}),
            _json("/hf/text-classification", "64 inputs of 2,000 characters", {"inputs": [words_of(2000)] * 64}),
            _json("/hf/question-answering", "inputs of 25,000 characters",
                  {"inputs": {"question": "Who?", "context": words_of(CONTEXT)}}),
            _json("/model/parse", "a message of 2,000 characters", {"text": words_of(2000)}),
            Sent("/v1/tag", "a photo of 1 megapixel", photo_of(1000), "image/jpeg"),
            Sent("/v1/tag", "a photo of 39 megapixels", photo_of(6245), "image/jpeg"),
            Sent("/v1/tag", "a progressive photo of 39 megapixels", photo_of(6245, True), "image/jpeg"),
            Sent("/v1/tag", "a PNG of 39 megapixels", _drawn(), "image/png"),
            Sent("/v1/tag", "16 photos of 1 megapixel", _form(*[photo_of(1000)] * 16), FORM),
            Sent("/hf/image-classification", "an image of 1 megapixel", photo_of(1000), "image/jpeg"),
            _json("/v2/models/percept-tagger/infer", "a photo as JSON", {"inputs": [
                {"name": "pixel_values", "shape": [1, 3, 160, 160], "datatype": "FP32", "data": [0.5] * 76_800}]}),
        )
    }  # fmt: skip


def _scan_bomb(side: int, scans: int) -> bytes:
    content = encoded(Image.new("RGB", (side, side), (90, 120, 60)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * scans + content[-2:]


def hostile() -> Iterator[Sent]:
    """Yield a request of each kind that is known to have cost much, here or elsewhere."""
    sentence, texts = honest_requests()["a sentence"], honest_requests()["64 texts of 2,000 characters"]
    context = honest_requests()["a context of 25,000 characters"]
    for route, name, honest in (
        ("/v1/intent", "texts", texts),
        ("/hf/text-classification", "inputs", texts),
        ("/v1/answer", "question", context),
        ("/model/parse", "text", sentence),
        ("/v1/embed", "texts", texts),
        ("/openai/v1/chat/completions", "messages", sentence),
        ("/v2/models/percept-tagger/infer", "inputs", texts),
        ("/hf/image-classification", "inputs", texts),
        ("/bento/intent", "texts", texts),
    ):
        start = b'{"%s":' % name.encode()
        for kind, body in {
            "escaped quotes without a text": start + b"[" * 33 + rb"\"[" * 20_000,
            "escaped quotes in a text": start + b'["' + rb"\"[" * 2_000_000 + b'"]}',
            "nested arrays": start + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
            "31 levels a thousand times": start + b"[" + (b"[" * 31 + b"]" * 31 + b",") * 1_200 + b"0]}",
            "39,000 arrays": start + b"[" + b"[]," * 38_990 + b"[]]}",
            "nine million arrays": start + b"[" + b"[]," * 9_000_000 + b"[]]}",
            "600,000 wrong items": start + b"[" + b"0," * 600_000 + b"0]}",
            "8 MB of wrong items": start + b"[" + b"0," * 4_000_000 + b"0]}",
            "39,000 unknown names": b"{" + b",".join(b'"%d":0' % each for each in range(39_000)) + b"}",
            "390,000 escapes": start + b'"' + rb"\u00e9" * 390_000 + b'"}',
        }.items():
            yield Sent(route, kind, body, honest=honest)
    for kind, text in {
        "marks without end": "a" + "\u0301\u0316" * 1000,
        "marks in thirties": ("a" + "\u0301\u0316" * 15) * 64,
        "punctuation": "a.,;" * 500,
        "ideographs": "\u6f22\u5b57" * 1000,
        "joined emoji": "\U0001f468\u200d\U0001f469\u200d" * 500,
        "blanks": "a" + " " * 1998 + "b",
    }.items():
        yield _json("/v1/intent", f"64 texts of {kind}", {"texts": [text[:2000]] * 64}, texts)
        long = {"question": "Who?", "context": (text * 13)[:CONTEXT]}
        yield _json("/v1/answer", f"a context of {kind}", long, context)
        yield _json(
            "/v1/answer", f"a question of {kind}", {"question": text[:2000]}, honest_requests()["with 20 passages"]
        )
        yield _json("/v1/understand", kind, {"text": text[:2000]}, honest_requests()["a question"])
    marks = {"question": "Who?", "context": "a" + "\u0301\u0316" * 12_000}
    yield _json("/v1/answer", "a context of nothing but marks", marks, context)
    yield from hostile_images()
    yield from hostile_forms()
    gzip = {"content-encoding": "gzip"}
    yield Sent("/v1/intent", "a compressed body", bomb(30)[:30_000], honest=sentence, headers=gzip)


def hostile_images() -> Iterator[Sent]:
    """Yield images that cost more than they look."""
    small = honest_requests()["a photo of 1 megapixel"]
    scans, drawn = (
        honest_requests()["a progressive photo of 39 megapixels"],
        honest_requests()["a PNG of 39 megapixels"],
    )
    plain = Image.new("RGBA", (6300, 6300), (200, 10, 10, 128))
    grey, palette = plain.convert("L"), plain.convert("RGB").quantize(8)
    cmyk = Image.new("CMYK", (6000, 6000), (20, 90, 200, 10))
    deep = Image.fromarray(np.full((6300, 6300), 40_000, np.uint16))
    wide = Image.new("RGB", (16383, 2441))
    chunk = png_chunk(b"zTXt", b"key\0\0" + bomb(60)) * 8
    tiny = encoded(Image.new("RGB", (8, 8)), "PNG")
    for kind, content, honest in (
        ("8,000 scans of 36 megapixels", _scan_bomb(6000, 8000), scans),
        ("25 scans of 39 megapixels", _scan_bomb(6200, 15), scans),
        ("500 scans of 1 megapixel", _scan_bomb(1000, 490), scans),
        ("a WebP of 16383x2441", encoded(wide, "WEBP", lossless=True, method=0), drawn),
        ("a WebP of 18 megapixels", encoded(plain.resize((4300, 4300)), "WEBP", lossless=True, method=0), drawn),
        ("a PNG of 39 megapixels with alpha", encoded(plain, "PNG"), drawn),
        ("a grey PNG of 39 megapixels with alpha", encoded(plain.convert("LA"), "PNG"), drawn),
        ("a PNG of 39 megapixels in 16 bits", encoded(deep, "PNG"), drawn),
        ("a PNG of one bit a pixel", encoded(grey.convert("1"), "PNG"), drawn),
        ("a GIF of 39 megapixels", encoded(palette, "GIF", transparency=1), drawn),
        ("a BMP of one bit a pixel", encoded(grey.convert("1"), "BMP"), drawn),
        ("a progressive CMYK JPEG", encoded(cmyk, "JPEG", progressive=True, subsampling=0), scans),
        ("480 MB of packed text in a PNG", tiny[:33] + chunk + tiny[33:], small),
        ("32 MB of spaces", b" " * (32 << 20), small),
        ("31 MB of zeros behind a JPEG", photo_of(1000) + bytes(31 << 20), small),
    ):
        yield Sent("/v1/tag", kind, content, "image/x", honest)


def hostile_forms() -> Iterator[Sent]:
    """Yield forms that keep their parser busy."""
    many = honest_requests()["16 photos of 1 megapixel"]
    for kind, body in {
        "30 MB of carriage returns": _form(b"\r" * (30 << 20)),
        "30 MB of boundaries that are none": _form(b"\r\n--cu" * (5 << 20)),
        "blanks behind a boundary": _form(b"") + b"--cut" + b" " * (30 << 20),
        "a million headers": b"--cut\r\n" + b"a: b\r\n" * 1_000_000,
        "100,000 parts": b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 100_000,
        "16 WebPs of 16 megapixels": _form(*[encoded(Image.new("RGB", (4000, 4000)), "WEBP", lossless=True)] * 16),
    }.items():
        yield Sent("/v1/tag", kind, body, FORM, many)


def mutated(sent: Sent, others: Sequence[Sent], rng: random.Random) -> Sent:
    """Return a request with another body: cut, flipped, spliced, or with a piece of it many times."""
    body = sent.body[:_MAX_MUTANT_BYTES]
    change: Callable[[bytes, random.Random], bytes] = rng.choice((*_ANY, _repeat, _repeat))
    if rng.random() < 0.2:
        other = rng.choice(others).body[:_MAX_MUTANT_BYTES]
        body = body[: rng.randint(0, len(body))] + other[rng.randint(0, len(other)) :]
    kind = sent.kind.removesuffix(", mutated") + ", mutated"
    return Sent(sent.route, kind, change(body, rng)[:_MAX_MUTANT_BYTES], sent.content_type, sent.honest or sent,
                sent.method, sent.headers)  # fmt: skip


def _repeat(body: bytes, rng: random.Random) -> bytes:
    first = rng.randint(0, len(body))
    piece = body[first : first + rng.choice((1, 2, 3, 8, 40, 400))]
    return body[:first] + piece * rng.choice((10, 1000, 30_000)) + body[first:]


def measure(
    server: Server, *, mutants: int, seed: int = 1, requests: Sequence[Sent] | None = None,
    said: Callable[[Cost], None] = lambda _: None,
) -> list[Cost]:  # fmt: skip
    """Return the cost of each request: honest, hostile, and so many mutants of the dearest for their length.

    Args:
        server: with one worker and the starter models.
        mutants: how many.
        seed: of the mutations.
        requests: instead of all honest and hostile ones.
        said: called with each cost.
    """
    meter, rng = Meter(server), random.Random(seed)
    found: list[Cost] = []
    for sent in requests if requests is not None else [*honest_requests().values(), *hostile()]:
        found.append(meter(sent))
        said(found[-1])
    parents = [cost for cost in found if not cost.sent.made]
    for _ in range(mutants):
        survivors = sorted(parents, key=lambda cost: -(cost.cpu_s + cost.mb / 100) / (2000 + len(cost.sent.body)))[:40]
        parent = rng.choice(survivors).sent if rng.random() < 0.7 else rng.choice(parents).sent
        parents.append(meter(mutated(parent, [cost.sent for cost in survivors], rng)))
        found.append(parents[-1])
        said(found[-1])
    return found


def dearest(found: Sequence[Cost], count: int = SHOWN) -> dict[str, list[Cost]]:
    """Return route -> its dearest requests, the dearest first."""
    routes: dict[str, list[Cost]] = {}
    for cost in sorted(found, key=lambda cost: -max(cost.cpu_s / MAX_CPU_S, cost.mb / MAX_MB)):
        routes.setdefault(cost.sent.route, []).append(cost)
    return {route: costs[:count] for route, costs in sorted(routes.items())}


def table(found: Sequence[Cost], count: int = SHOWN) -> str:
    """Return the dearest requests of each route as a table in Markdown."""
    return "\n".join([HEAD, *(cost.line for costs in dearest(found, count).values() for cost in costs)])


def publish(found: Sequence[Cost], page: Path = PROJECT_ROOT / "docs" / "security.md") -> None:
    """Write the two dearest requests of each route into the page about security."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{table(found, 2)}\n{END}{after}", encoding="utf-8")
