"""What programs that ask a Percept service import: `from percept import Client`. Needs httpx alone."""

from percept.answers import (
    Answer,
    Answered,
    Document,
    DocumentText,
    ImageTags,
    Intent,
    IntentScore,
    ItemError,
    Model,
    Passage,
    ServedModel,
    ServedModels,
    Source,
    Tag,
    Understood,
)
from percept.async_client import AsyncClient
from percept.client import Client
from percept.errors import (
    ApiError,
    BadAnswer,
    BadInput,
    ClientError,
    Denied,
    NoAnswer,
    NotFound,
    Overloaded,
    Unavailable,
)
from percept.retry import Retry
from percept.sending import traced

__all__ = [
    "Answer",
    "Answered",
    "ApiError",
    "AsyncClient",
    "BadAnswer",
    "BadInput",
    "Client",
    "ClientError",
    "Denied",
    "Document",
    "DocumentText",
    "ImageTags",
    "Intent",
    "IntentScore",
    "ItemError",
    "Model",
    "NoAnswer",
    "NotFound",
    "Overloaded",
    "Passage",
    "Retry",
    "ServedModel",
    "ServedModels",
    "Source",
    "Tag",
    "Unavailable",
    "Understood",
    "traced",
]
