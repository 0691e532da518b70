"""Web pages by list, sitemap or bounded crawl, as their robots.txt allows."""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from lxml import etree
from protego import Protego
from pydantic import Field, model_validator

from shared.errors import ConfigError, DataError
from shared.sources.pages import Page, PagePhoto, read_page
from shared.sources.polite import USER_AGENT, Answer, Visitor
from shared.sources.steps import Done, Found, SetAside, SourceSpec, Step, check_no_secrets

MAX_PAGE_BYTES = 8 << 20
MAX_ROBOTS_BYTES = 512 << 10  # RFC 9309, section 2.5: at least 500 KiB are read
MAX_URL = 2_000
MAX_SAME_PATH = 50
"""Pages that differ in their query alone: a calendar goes on for ever."""
MAX_DEPTH_OF_PATH = 12
MAX_SITEMAPS = 500
MAX_PHOTOS = 500
"""Of one page."""
MAX_PAUSE_S = 60.0
_HTML = ("text/html", "application/xhtml+xml")
_FOUND = 200
_BROKEN = 500


class WebSpec(SourceSpec):
    """Web pages; one of `pages`, `sitemap` and `start` says which."""

    kind: Literal["web"]
    pages: list[str] | None = None
    """Their addresses."""
    sitemap: str | None = None
    """The address of a sitemap, or of an index of sitemaps."""
    start: str | None = None
    """Where a crawl begins; it stays below this address's folder."""
    max_pages: int = Field(default=500, gt=0)
    max_depth: int = Field(default=5, ge=0)
    """Links from the start."""
    photos: bool = False
    """Rows are the photos of the pages, not their texts."""
    pause_s: float = Field(default=1.0, ge=0)
    """Least time between two requests to a host; robots.txt may ask for more."""

    @model_validator(mode="after")
    def _one_way(self) -> WebSpec:
        ways = [way for way in ("pages", "sitemap", "start") if getattr(self, way)]
        if len(ways) != 1:
            raise ValueError(f"say one of pages, sitemap and start; came {' and '.join(ways) or 'none'}")
        return self

    @property
    def place(self) -> str:
        first = self.sitemap or self.start or (self.pages or [""])[0]
        return first.partition("://")[2].partition("/")[0].rpartition("@")[2]


@dataclass(frozen=True)
class _Robots:
    rules: Protego | None
    """None: all is allowed."""
    pause_s: float
    is_closed: bool = False

    def allows(self, url: str) -> bool:
        return not self.is_closed and (self.rules is None or bool(self.rules.can_fetch(url, USER_AGENT)))


class WebReader:
    """Visits pages; a step is a page."""

    resumes = True

    def __init__(self, spec: WebSpec) -> None:
        self.spec = spec
        self.visitor = Visitor(pause_s=spec.pause_s, max_bytes=MAX_PAGE_BYTES)
        self._robots: dict[str, _Robots] = {}
        self._landed: set[str] = set()
        self._photos: set[str] = set()
        """Addresses of photos that were asked for: one that many pages show is asked for once."""

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the pages behind those that are done; links of those lead on.

        Raises:
            ConfigError: an address is none.
            DataError: the sitemap cannot be read.
        """
        queue: deque[tuple[str, int]] = deque()
        known: set[str] = set()
        paths: Counter[str] = Counter()
        visited = {each.key for each in done}

        def add(urls: Sequence[str], depth: int) -> None:
            for url in urls:
                clean = normalised(url)
                bare = clean.partition("?")[0]
                if clean in known or (depth and (not self._is_within(clean) or paths[bare] >= MAX_SAME_PATH)):
                    continue
                known.add(clean)
                paths[bare] += 1
                queue.append((clean, depth))

        add(self._first(), 0)
        links = {each.key: each.cursor for each in done}
        self._landed = {each.cursor["landed"] for each in done if each.cursor.get("landed")}
        self._photos = {url for each in done for url in each.cursor.get("photos", ())}
        count = 0
        while queue and count < self.spec.max_pages:
            url, depth = queue.popleft()
            count += 1
            if url in visited:
                found = links[url] or {}
            else:
                step = self._visit(url)
                found = step.cursor
                yield step
            if self.spec.start and depth < self.spec.max_depth:
                add(found.get("links", ()), depth + 1)

    def _first(self) -> list[str]:
        urls = self.spec.pages or ([self.spec.start] if self.spec.start else [])
        if self.spec.sitemap:
            urls = list(self._of_sitemap(self.spec.sitemap))
        for url in urls:
            check_no_secrets(url, {})
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
                raise ConfigError(f"{url!r} is no address of a page; expected http or https.")
        return urls

    def _is_within(self, url: str) -> bool:
        start, found = urlsplit(self.spec.start or ""), urlsplit(url)
        folder = start.path.rpartition("/")[0] + "/"
        segments = [part for part in found.path.split("/") if part]
        return (
            len(url) <= MAX_URL
            and found.netloc == start.netloc
            and found.path.startswith(folder)
            and len(segments) <= MAX_DEPTH_OF_PATH
            and max(Counter(segments).values(), default=0) <= 2  # /a/b/a/b/a/b is a trap
        )

    def _visit(self, url: str) -> Step:
        step = Step(key=url, cursor={"links": []})
        try:
            robots = self._robots_of(url)
            if not robots.allows(url):
                step.set_aside.append(SetAside(url, "robots.txt forbids it"))
                return step
            answer = self.visitor.get(url, accept="text/html, application/xhtml+xml", pause_s=robots.pause_s)
            landed = normalised(answer.url)
            if landed != url and not self._robots_of(landed).allows(landed):
                step.set_aside.append(SetAside(url, f"it leads to {landed}, which robots.txt forbids"))
            elif landed in self._landed:
                step.set_aside.append(SetAside(url, f"it leads to {landed}, which was read already"))
            else:
                self._landed.add(landed)
                self._read(answer, url, step)
                step.cursor["landed"] = landed
        except (DataError, ValueError) as error:  # an address that a server redirects to may be none
            step.failed = str(error)
        return step

    def _read(self, answer: Answer, url: str, step: Step) -> None:
        kind, charset = _media_type(answer.headers.get("content-type", ""))
        if answer.status != _FOUND:
            step.set_aside.append(SetAside(url, f"answered {answer.status}"))
            return
        if kind not in _HTML:
            step.set_aside.append(SetAside(url, f"is {kind or 'of no kind'}, no HTML"))
            return
        page = read_page(answer.content, answer.url, charset=charset, robots=answer.headers.get("x-robots-tag", ""))
        if not page.forbids_following and self.spec.start:
            step.cursor = {"links": [link for link in page.links if self._is_within(normalised(link))]}
        if page.forbids_ai or (self.spec.photos and page.forbids_ai_images):
            step.set_aside.append(SetAside(url, "asks not to be used for AI (noai)"))
        elif self.spec.photos:
            new = list({photo.url: photo for photo in reversed(page.photos) if photo.url not in self._photos}.values())
            for photo in new[::-1][:MAX_PHOTOS]:
                self._photo(photo, page, url, step)
            if len(new) > MAX_PHOTOS:
                step.set_aside.append(SetAside(url, f"has {len(new)} photos; the first {MAX_PHOTOS} are taken"))
            step.cursor["photos"] = [photo.url for photo in new[::-1][:MAX_PHOTOS]]
            self._photos.update(step.cursor["photos"])
        elif not page.text:
            step.set_aside.append(SetAside(url, "has no text"))
        else:
            row = {"url": url, "title": page.title, "text": page.text, "language": page.language}
            step.found.append(Found(row, url, licence=page.licence))

    def _photo(self, photo: PagePhoto, page: Page, url: str, step: Step) -> None:
        try:
            robots = self._robots_of(photo.url)
            if not robots.allows(photo.url):
                step.set_aside.append(SetAside(photo.url, "robots.txt forbids it"))
                return
            answer = self.visitor.get(photo.url, accept="image/*", pause_s=robots.pause_s)
        except (DataError, ValueError) as error:
            step.set_aside.append(SetAside(photo.url, str(error)))
            return
        kind, _ = _media_type(answer.headers.get("content-type", ""))
        if answer.status != _FOUND or not kind.startswith("image/"):
            step.set_aside.append(SetAside(photo.url, f"answered {answer.status} with {kind or 'no kind'}"))
            return
        name = urlsplit(photo.url).path.rpartition("/")[2] or "photo"
        row = {
            "image": {"bytes": answer.content, "path": name},
            "alt": photo.alt,
            "caption": photo.caption,
            "page": url,
        }
        step.found.append(Found(row, photo.url, licence=photo.licence or page.licence))

    def _robots_of(self, url: str) -> _Robots:
        """Return the rules of a host, asked for once.

        Source: RFC 9309: without the file all is allowed; while it cannot be had, nothing is.
        """
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self._robots:
            answer = self.visitor.get(f"{host}/robots.txt", accept="text/plain")
            if answer.status >= _BROKEN:
                self._robots[host] = _Robots(None, 0.0, is_closed=True)
            elif answer.status != _FOUND:
                self._robots[host] = _Robots(None, 0.0)
            else:
                rules = Protego.parse(answer.content[:MAX_ROBOTS_BYTES].decode("utf-8", "replace"))
                delay = rules.crawl_delay(USER_AGENT) or 0.0
                rate = rules.request_rate(USER_AGENT)
                if rate is not None:
                    delay = max(delay, rate.seconds / rate.requests)
                self._robots[host] = _Robots(rules, min(float(delay), MAX_PAUSE_S))
        return self._robots[host]

    def _of_sitemap(self, sitemap: str) -> Iterator[str]:
        """Yield the addresses of a sitemap, and of those that an index names.

        Source: https://www.sitemaps.org/protocol.html
        """
        waiting, seen = deque([sitemap]), set[str]()
        while waiting:
            url = waiting.popleft()
            if url in seen:
                continue
            seen.add(url)
            if len(seen) > MAX_SITEMAPS:
                raise DataError(f"{sitemap} leads to more than {MAX_SITEMAPS} sitemaps.")
            answer = self.visitor.get(url)
            if answer.status != _FOUND:
                raise DataError(f"the sitemap {url} answered {answer.status}. Check `sitemap`.")
            root = _xml(answer, url)
            places = [(loc.text or "").strip() for loc in root.iter("{*}loc")]
            if etree.QName(root).localname == "sitemapindex":
                waiting.extend(urljoin(url, place) for place in places)
            else:
                yield from (urljoin(url, place) for place in places if place)


def normalised(url: str) -> str:
    """Return an address as it is visited: no fragment, lower-case host, no port that goes without saying.

    >>> normalised("HTTP://Example.org:80#top")
    'http://example.org/'
    """
    parts = urlsplit(urldefrag(url).url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    if usual:
        host = host.removesuffix(usual)
    return parts._replace(scheme=scheme, netloc=host, path=parts.path or "/").geturl()


def _xml(answer: Answer, url: str) -> Any:
    content = answer.content
    if content[:2] == b"\x1f\x8b":
        try:
            unpacking = zlib.decompressobj(31)
            content = unpacking.decompress(content, MAX_PAGE_BYTES * 8)
        except zlib.error as error:
            raise DataError(f"the sitemap {url} cannot be unpacked: {error}.") from error
    try:
        return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise DataError(f"the sitemap {url} is not XML: {error}.") from error


def _media_type(header: str) -> tuple[str, str | None]:
    message = Message()
    message["content-type"] = header
    return (message.get_content_type() if header else ""), message.get_content_charset()
