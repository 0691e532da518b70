"""API keys: the file of their hashes, the key ring that each worker looks them up in, and their rates.

A key is 32 random bytes, shown once when it is made. The file has its SHA-256 only, so reading the file gives nobody a
key. A slow hash, as for passwords, would add nothing, because nobody can try 2^256 values, and would cost every request
milliseconds. `percept key` writes the file whole or not at all; workers notice within a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import mmap
import os
import secrets
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from shared.errors import ConfigError

KEY_PREFIX = "percept_"
"""So that people, and the scanners of code hosts, recognise a key."""
KEY_BYTES = 32
ADMIN_NAME = "admin"
"""Name of the setting `admin_key` in log and metrics."""
MAX_KEYS = 1000
"""Each has its own series in the metrics."""
_CHECK_S = 1.0
_SLOTS = 4096
_SLOT = struct.Struct("=8sd")  # the beginning of the key's hash; seconds of the machine's monotonic clock
_PROBES = 32
_MINUTE_S = 60.0
_FILE = "percept_rates"
Role = Literal["user", "admin"]

_log = logging.getLogger(__name__)


class ApiKey(BaseModel):
    """What the file says of a key, without the key itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    """Who holds it, for log, metrics and `percept key remove`."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Role = "user"
    created: date
    expires: date | None = None
    """The last day on which it is valid, in UTC."""
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)

    @property
    def is_expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and datetime.now(UTC).date() > self.expires


class KeyFile(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    keys: list[ApiKey] = Field(default=[], max_length=MAX_KEYS)

    @model_validator(mode="after")
    def _each_is_one(self) -> KeyFile:
        for values in ([key.name for key in self.keys], [key.sha256 for key in self.keys]):
            if len(set(values)) < len(values):
                raise ValueError("two keys have the same name or the same hash")
        return self


def digest_of(key: str) -> str:
    """Return the hash of a key, as the file has it.

    >>> digest_of("percept_x") == digest_of("percept_y")
    False
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(
    name: str,
    *,
    role: Role = "user",
    expires: date | None = None,
    requests_per_minute: int | None = None,
) -> tuple[str, ApiKey]:
    """Return a new key and its entry for the file.

    Raises:
        ConfigError: the name or a limit is wrong.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        return secret, ApiKey(
            name=name,
            sha256=digest_of(secret),
            role=role,
            created=datetime.now(UTC).date(),
            expires=expires,
            requests_per_minute=requests_per_minute,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(
            f"{first['loc'][0]} is wrong: {first['msg']}. A name has up to 64 letters, digits, dots, dashes and @."
        ) from None


def read_keys(path: Path) -> list[ApiKey]:
    """Return the keys of a file.

    Raises:
        ConfigError: it is missing, cannot be read or is not a file of keys.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file of keys at {path}. Make a first key: percept key add NAME --file {path}"
        ) from error
    except OSError as error:
        raise ConfigError(f"the file of keys {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise ConfigError(f"{path} is not a file of keys: {place}: {first['msg']}. `percept key` writes one.") from None


@contextmanager
def edited_keys(path: Path) -> Iterator[list[ApiKey]]:
    """Hold the keys of a file for a change, none if there is no file yet; they are written when the context ends.

    Nobody else can change them meanwhile. Only the owner of the file can read it.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(path) if path.exists() else []
            yield keys
            _write_keys(path, keys)
    except OSError as error:
        raise ConfigError(f"the file of keys {path} cannot be written: {error.strerror}.") from error


def add_key(
    path: Path,
    name: str,
    *,
    role: Role = "user",
    expires: date | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Return a new key, which cannot be recovered later, and add its entry to a file.

    Raises:
        ConfigError: the name is wrong or taken, or as `edited_keys`.
    """
    secret, key = new_key(name, role=role, expires=expires, requests_per_minute=requests_per_minute)
    with edited_keys(path) as keys:
        if any(each.name == name for each in keys):
            raise ConfigError(f"there is already a key of {name}. Remove it first, or take a name such as {name}-2.")
        if len(keys) >= MAX_KEYS:
            raise ConfigError(f"{path} holds {len(keys)} keys, which is the limit. Remove some.")
        keys.append(key)
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file.

    Raises:
        ConfigError: there is no key of that name, or as `edited_keys`.
    """
    read_keys(path)  # or a missing file would be created
    with edited_keys(path) as keys:
        found = [each for each in keys if each.name == name]
        if not found:
            known = ", ".join(sorted(each.name for each in keys)) or "none"
            raise ConfigError(f"there is no key of {name} in {path}; there are: {known}.")
        keys.remove(found[0])


def _write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    content = json.dumps(KeyFile(keys=list(keys)).model_dump(mode="json", exclude_none=True), indent=2)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class KeyRing:
    """The keys of a file as they are now, and the key of the administrator.

    Args:
        path: read here, and again when it changes, which is checked at most once a second. If the file is broken by
            then, the keys stay as they were, and it is logged.
        admin_key: opens everything; None for none.

    Raises:
        ConfigError: the file cannot be read at the start.
    """

    def __init__(self, path: Path, admin_key: SecretStr | None = None) -> None:
        self._path = path
        self._own: list[ApiKey] = []
        if admin_key is not None:
            digest = digest_of(admin_key.get_secret_value())
            self._own.append(ApiKey(name=ADMIN_NAME, sha256=digest, role="admin", created=date.min))
        self._seen = _signature(path)
        self._by_digest = self._indexed(read_keys(path))
        self._next_check = time.monotonic() + _CHECK_S

    def find(self, key: str) -> ApiKey | None:
        """Return the entry of a key that a client sent, expired or not; None if it is unknown."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_S
            self._look_again()
        digest = digest_of(key)
        found = self._by_digest.get(digest)
        # The time of the look-up may reveal a hash, which leads to no key; the time of the comparison reveals nothing.
        return found if found is not None and hmac.compare_digest(found.sha256, digest) else None

    def _look_again(self) -> None:
        seen = _signature(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._by_digest = self._indexed(read_keys(self._path))
        except ConfigError as error:
            _log.error("the keys stay as they were: %s", error)
            return
        _log.info("the keys were read again", extra={"keys": len(self._by_digest)})

    def _indexed(self, keys: Sequence[ApiKey]) -> dict[str, ApiKey]:
        return {key.sha256: key for key in [*keys, *self._own]}


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Rates:
    """A bucket per key: a minute's requests may come at once, and they come back one by one.

    One number per key is enough, the time at which its requests so far are paid off (the generic cell rate algorithm, a
    token bucket described by its end: ITU-T I.371, annex A). The numbers are in a small file that all workers of a
    server map, in the folder that BentoML gives them and empties at each start; a file lock, which the system releases
    if a worker dies, is held while one is read and written. So a client has its rate whichever workers it reaches.

    Args:
        folder: shared by the workers; None for a count of this process alone.
    """

    def __init__(self, folder: Path | None) -> None:
        size = _SLOTS * _SLOT.size
        self._file: int | None = None
        try:
            if folder is not None:
                self._file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
                os.ftruncate(self._file, size)
        except OSError as error:
            _log.warning("each worker counts the requests of keys for itself: %s", error.strerror)
            self._file = None
        self._slots = mmap.mmap(-1 if self._file is None else self._file, size)

    def wait_s(self, identity: bytes, per_minute: int) -> float:
        """Count a request and return 0, or return how many seconds later it would be let in.

        Args:
            identity: 8 bytes or more, evenly distributed, such as a hash.
            per_minute: the key's rate.
        """
        if self._file is None:
            return self._take(identity, per_minute)
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            return self._take(identity, per_minute)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _take(self, identity: bytes, per_minute: int) -> float:
        now = time.monotonic()
        period = _MINUTE_S / per_minute
        offset, paid_off = self._find(identity[:8], now)
        if not now < paid_off <= now + _MINUTE_S + period:  # idle, or left over from before the machine started
            paid_off = now
        wait_s = paid_off + period - now - _MINUTE_S
        if wait_s > 1e-6:
            return wait_s
        _SLOT.pack_into(self._slots, offset, identity[:8], paid_off + period)
        return 0.0

    def _find(self, identity: bytes, now: float) -> tuple[int, float]:
        """Return the slot of a key and its time; an idle key's slot is free for another."""
        first = int.from_bytes(identity[:4], "little")
        free: int | None = None
        for step in range(_PROBES):
            offset = (first + step) % _SLOTS * _SLOT.size
            owner, paid_off = _SLOT.unpack_from(self._slots, offset)
            if owner == identity:
                return offset, paid_off
            if free is None and paid_off <= now:
                free = offset
        return first % _SLOTS * _SLOT.size if free is None else free, 0.0
