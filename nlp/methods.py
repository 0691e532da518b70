"""The language service's methods for BentoML's own clients; all others use the routes of `nlp.api`.

The all-in-one service inherits them too, and says where the engine is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import bentoml
from pydantic import Field

from nlp.api import (
    DEFAULT_TOP_K,
    AnswerResponse,
    IntentResponse,
    Style,
    UnderstandResponse,
    answer_question,
    classify_texts,
    understand_text,
)
from nlp.engine import DEFAULT_PASSAGES, MAX_PASSAGES, LanguageEngine


class LanguageMethods:
    """Utterances to intents, questions to answers."""

    language: Callable[[], LanguageEngine]
    """Returns the engine, at every request; a service sets it as a static method."""

    @bentoml.api(route="/bento/intent")
    async def intent(self, texts: list[Any], top_k: Annotated[int, Field(ge=1)] = DEFAULT_TOP_K) -> IntentResponse:
        """Return what each utterance wants, with an error in place of each that cannot be answered."""
        return await classify_texts(self.language(), texts, top_k=top_k)

    @bentoml.api(route="/bento/answer")
    async def answer(
        self,
        question: str,
        context: str | None = None,
        passages: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = DEFAULT_PASSAGES,
        style: Style = "quote",
    ) -> AnswerResponse:
        """Return the answer to a question, from the context or, without one, from the knowledge base."""
        return await answer_question(self.language(), question, context, passages=passages, style=style)

    @bentoml.api(route="/bento/understand")
    async def understand(self, text: str) -> UnderstandResponse:
        """Return what an utterance wants and, if it asks something, what the knowledge base says."""
        return await understand_text(self.language(), text)
