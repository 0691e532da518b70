"""Every error that Percept raises on purpose.

PerceptError
├── ConfigError              a setting, flag or file of settings is wrong
├── DataError                training or evaluation data cannot be used
├── TrainingCutOff           a process of a training over several is gone
├── BundleError              a model folder is missing, broken or of another version
├── CalibrationError         temperature or thresholds cannot be fitted
├── ExportError              the exported model does not do what the trained one does
├── BatchError               a bulk run was cut off; the same command goes on
├── RuntimeUnavailable       the device that was asked for is not here
├── InputError               what a caller sent cannot be answered; sending it again will not help
│   ├── InvalidImage         the bytes are no picture that can be decoded
│   ├── UnsupportedMedia     a picture or body of a kind that is not accepted
│   ├── TooLarge             more bytes, pixels or items than the limit
│   ├── TooSlow              the body did not come in time
│   ├── NotFound             no such model, label or route
│   ├── Unauthorized         no key, or a wrong one
│   └── Forbidden            no key opens it here, or not this one
└── ServiceError             the service cannot answer now; the same request may go through later
    ├── Overloaded           the queue is full
    │   └── RateLimited      a key has had its requests of this minute
    ├── NotReady             the model is not loaded yet, or the service is draining
    └── DeadlineExceeded     the answer was not there in time

Messages say what was expected, what came and what to do. An InputError or ServiceError is shown to the caller, so its
message holds no path and nothing of the machine. HTTP status codes live in `shared.serving.http.errors` alone.
"""

from __future__ import annotations

import reprlib


class PerceptError(Exception):
    """Base of all errors raised on purpose; anything else that escapes is a bug."""


class ConfigError(PerceptError):
    """A setting, flag or file of settings is wrong."""


class DataError(PerceptError):
    """Training or evaluation data cannot be used."""


class TrainingCutOff(PerceptError):
    """A process of a training over several is gone; it can be resumed."""


class BundleError(PerceptError):
    """A model folder is missing, broken or of another version."""


class CalibrationError(PerceptError):
    """Temperature or thresholds cannot be fitted on what was given."""


class ExportError(PerceptError):
    """The exported model does not do what the trained one does."""


class BatchError(PerceptError):
    """A bulk run was cut off; what was done is kept, and the same command goes on from there."""


class RuntimeUnavailable(PerceptError):
    """The device that was asked for is not here."""


class InputError(PerceptError):
    """What a caller sent cannot be answered; sending it again will not help."""


class InvalidImage(InputError):
    """The bytes are no picture that can be decoded."""


class UnsupportedMedia(InputError):
    """A picture or body of a kind that is not accepted."""


class TooLarge(InputError):
    """More bytes, pixels or items than the limit."""


class TooSlow(InputError):
    """The body did not come in time."""


class NotFound(InputError):
    """No such model, label or route."""


class Unauthorized(InputError):
    """No API key, or a wrong one."""


class Forbidden(InputError):
    """No key opens it, or not this one."""


class ServiceError(PerceptError):
    """The service cannot answer now; the same request may go through later."""


class Overloaded(ServiceError):
    """The queue is full."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """A key has had its requests of this minute."""


class NotReady(ServiceError):
    """The model is not loaded yet, or the service is draining."""


class DeadlineExceeded(ServiceError):
    """The answer was not there in time."""


def shown(value: object) -> str:
    """Return a value as a message shows it: short, however large it is.

    >>> shown("x" * 500)[:6], shown([[[[[]]]]])
    ("'xxxxx", '[[[[...]]]]')
    """
    return _SHORT.repr(value)[:_SHOWN]


_SHOWN = 200
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80
