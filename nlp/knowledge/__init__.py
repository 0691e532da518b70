"""What questions are answered from: documents in one file, cut into passages and found by BM25.

`KnowledgeBase.open(path)` is all that a service needs. `documents` reads Markdown, plain text, HTML and PDF, `chunks`
cuts them, `store` keeps and searches them in SQLite. Needs neither torch nor transformers.
"""

from nlp.knowledge.index import Passage
from nlp.knowledge.ranking import Reranker
from nlp.knowledge.store import DocumentInfo, KnowledgeBase

__all__ = ["DocumentInfo", "KnowledgeBase", "Passage", "Reranker"]
