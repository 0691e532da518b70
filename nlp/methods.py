"""The language service's methods for BentoML's own clients; all other clients use the routes of `nlp.api`.

A class of its own, so that the all-in-one service has them too: it inherits them, and says where the engine is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import bentoml
from pydantic import Field

from nlp.api import (
    DEFAULT_PASSAGES,
    DEFAULT_TOP_K,
    AnswerResponse,
    IntentResponse,
    UnderstandResponse,
    answer_question,
    classify_texts,
    understand_text,
)
from nlp.engine import MAX_PASSAGES, LanguageEngine


class LanguageMethods:
    """Utterances to intents, questions to answers."""

    language: Callable[[], LanguageEngine]
    """Gives the engine at every request; a service sets it as a static method."""

    @bentoml.api(route="/bento/intent")
    async def intent(self, texts: list[Any], top_k: Annotated[int, Field(ge=1)] = DEFAULT_TOP_K) -> IntentResponse:
        """Return what each utterance wants; what is wrong with one stands in its place."""
        return await classify_texts(self.language().needed_intent(), texts, top_k=top_k)

    @bentoml.api(route="/bento/answer")
    async def answer(
        self,
        question: str,
        context: str | None = None,
        passages: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = DEFAULT_PASSAGES,
    ) -> AnswerResponse:
        """Return the answer to a question out of the context, or without one out of the knowledge base."""
        return await answer_question(self.language(), question, context, passages=passages)

    @bentoml.api(route="/bento/understand")
    async def understand(self, text: str) -> UnderstandResponse:
        """Return what an utterance wants, and what the knowledge base says where it asks something."""
        return await understand_text(self.language(), text)
