"""JSON APIs that give their records page by page."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

import httpx
from pydantic import BaseModel, Field

from shared.errors import ConfigError, DataError
from shared.sources.polite import Answer, Visitor, keeps_secrets
from shared.sources.steps import Done, Found, Secrets, SetAside, SourceSpec, Step, check_no_secrets, picked

_OK = range(200, 300)
_SHOWN = 200
_SCHEME = re.compile(r"^\w+://")


class _Paging(BaseModel):
    model_config = SourceSpec.model_config


class ByPage(_Paging):
    """The number of the page is a parameter; the first page without records is the end."""

    by: Literal["page"]
    parameter: str = "page"
    first: int = 1


class ByOffset(_Paging):
    """The number of records to leave out is a parameter; the first page without records is the end."""

    by: Literal["offset"]
    parameter: str = "offset"
    first: int = 0


class ByCursor(_Paging):
    """Each page has what to ask the next one with; the page without it is the last."""

    by: Literal["cursor"]
    parameter: str = "cursor"
    next: str
    """Where it is in the page, with dots."""


class ByAddress(_Paging):
    """Each page has the address of the next one; the page without it is the last."""

    by: Literal["address"]
    next: str
    """Where it is in the page, with dots."""


class ByLink(_Paging):
    """The header Link has the address of the next page, as GitHub does it (RFC 8288)."""

    by: Literal["link"]


class RestSpec(SourceSpec):
    """A JSON API."""

    kind: Literal["rest"]
    url: str
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    """Secrets come from the environment: {Authorization: "Bearer ${TOKEN}"}."""
    records: str = ""
    """Where the list of records is in a page, with dots; empty if the page is the list."""
    paging: Annotated[ByPage | ByOffset | ByCursor | ByAddress | ByLink, Field(discriminator="by")] | None = None
    requests_per_second: float = Field(default=5.0, gt=0, le=100)
    max_pages: int = Field(default=100_000, gt=0)

    @property
    def place(self) -> str:
        host, slash, path = _SCHEME.sub("", self.url.partition("?")[0]).partition("/")
        return f"{host.rpartition('@')[2]}{slash}{path}"


class RestReader:
    """Reads an API; a step is a page."""

    resumes = True

    def __init__(self, spec: RestSpec, secrets: Secrets) -> None:
        check_no_secrets(spec.url, {**spec.parameters, **spec.headers})
        self.spec, self.secrets = spec, secrets
        self._url = secrets.fill(spec.url)
        try:
            httpx.URL(self._url)
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(
                f"`url` is no address: {error}. Expected one such as https://api.example.org/tickets."
            ) from error
        self._secret_names = {name for name, value in spec.parameters.items() if "${" in str(value)}
        self._parameters = {
            name: secrets.fill(value) if isinstance(value, str) else value for name, value in spec.parameters.items()
        }
        headers = {name: secrets.fill(value) for name, value in spec.headers.items()}
        self.visitor = Visitor(headers, pause_s=1 / spec.requests_per_second)

    def steps(self, done: Sequence[Done]) -> Iterator[Step]:
        """Yield the pages behind those that are done.

        Raises:
            DataError: a page cannot be had or read, or pages come again.
        """
        following: Any = done[-1].cursor["next"] if done else self._first()
        seen = {done_step.cursor["digest"] for done_step in done}
        asked = {json.dumps(done_step.cursor["next"], sort_keys=True) for done_step in done}
        number = len(done)
        while following is not None:
            if number >= self.spec.max_pages:
                raise DataError(
                    f"{self.spec.place} has more than {number:,} pages: raise max_pages, or correct paging."
                )
            answer = self._ask(following)
            page = self._page(answer)
            records = self._records(page)
            digest = hashlib.sha256(answer.content).hexdigest()
            place = self.secrets.mask(self._shown(following))
            if records and digest in seen:
                raise DataError(f"{self.spec.place} answered {place} with a page that it gave before: "
                                "it does not heed this paging. Correct `paging`.")  # fmt: skip
            seen.add(digest)
            step = Step(key=f"page {number}")
            for index, record in enumerate(records):
                if isinstance(record, dict):
                    step.found.append(Found(record, f"{place} record {index}"))
                else:
                    kind = type(record).__name__
                    step.set_aside.append(SetAside(f"{place} record {index}", f"is a {kind}, no object", record))
            following = self._next(following, page, answer, len(records))
            key = json.dumps(following, sort_keys=True)
            if following is not None and key in asked:
                again = self.secrets.mask(self._shown(following))
                raise DataError(f"{self.spec.place} names {again} as the next page again: it would go "
                                "round for ever. What was read is kept; report it to who runs the API.")  # fmt: skip
            asked.add(key)
            step.cursor = {"next": following, "digest": digest}
            number += 1
            yield step

    def _first(self) -> dict[str, Any]:
        paging = self.spec.paging
        if isinstance(paging, ByPage | ByOffset):
            return {"at": paging.first}
        return {"at": None}

    def _ask(self, following: dict[str, Any]) -> Answer:
        if "url" in following:
            own = {name: self._parameters[name] for name in self._secret_names}
            return self.visitor.get(str(httpx.URL(following["url"]).copy_merge_params(own)), accept="application/json")
        parameters = dict(self._parameters)
        if following["at"] is not None:
            assert isinstance(self.spec.paging, ByPage | ByOffset | ByCursor)
            parameters[self.spec.paging.parameter] = following["at"]
        return self.visitor.get(str(httpx.URL(self._url).copy_merge_params(parameters)), accept="application/json")

    def _page(self, answer: Answer) -> Any:
        if answer.status not in _OK:
            said = self.secrets.mask(answer.content[:_SHOWN].decode("utf-8", "replace"))
            help_ = {401: "Check the secret in `headers`.", 403: "Check the secret in `headers`.", 404: "Check `url`."}
            raise DataError(f"{self.spec.place} answered {answer.status}: {said!r}. "
                            f"{help_.get(answer.status, 'Check `url` and `parameters`.')}")  # fmt: skip
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            said = self.secrets.mask(answer.content[:_SHOWN].decode("utf-8", "replace"))
            raise DataError(f"{self.spec.place} did not answer with JSON: {said!r}.") from error

    def _records(self, page: Any) -> list[Any]:
        try:
            found = picked(page, self.spec.records) if self.spec.records else page
        except KeyError:
            found = None
        if isinstance(found, list):
            return found
        has = (
            f"an object with {', '.join(map(repr, list(page)[:8]))}" if isinstance(page, dict) else type(page).__name__
        )
        raise DataError(f"{self.spec.place}: no list at {self.spec.records or 'the top'!r} of a page, which is {has}. "
                        "Say where it is with `records`.")  # fmt: skip

    def _next(self, asked: dict[str, Any], page: Any, answer: Answer, count: int) -> dict[str, Any] | None:
        paging = self.spec.paging
        if isinstance(paging, ByPage):
            return {"at": asked["at"] + 1} if count else None
        if isinstance(paging, ByOffset):
            return {"at": asked["at"] + count} if count else None
        if isinstance(paging, ByLink):
            link = httpx.Response(200, headers={"link": answer.headers.get("link", "")}).links.get("next", {})
            return self._address(link.get("url"), answer)
        if isinstance(paging, ByCursor | ByAddress):
            try:
                value = picked(page, paging.next)
            except KeyError:
                value = None
            if value in (None, "", False):
                return None
            return self._address(str(value), answer) if isinstance(paging, ByAddress) else {"at": value}
        return None

    def _address(self, value: str | None, answer: Answer) -> dict[str, Any] | None:
        if not value:
            return None
        url = urljoin(answer.url, value)
        try:
            is_own = keeps_secrets(self._url, url)
            found = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise DataError(f"{self.spec.place} names a next page that is no address: {error}.") from error
        if not is_own and (self.spec.headers or self._secret_names):
            raise DataError(f"{self.spec.place} names a next page at {found.scheme}://{found.netloc.decode()}: what is "
                            "meant for this server alone is not sent there.")  # fmt: skip
        for name in self._secret_names:  # the journal keeps this address, and is no place for a secret
            found = found.copy_remove_param(name)
        return {"url": str(found)}

    def _shown(self, following: dict[str, Any]) -> str:
        if "url" in following:
            return str(following["url"])
        if following["at"] is None:
            return self.spec.place
        assert self.spec.paging is not None
        return f"{self.spec.place} {self.spec.paging.by} {following['at']}"
