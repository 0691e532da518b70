"""Documents that questions are answered from, kept in one SQLite file, cut into passages and found by BM25.

`KnowledgeBase(path)` is all a service needs. Needs neither torch nor transformers.
"""

from nlp.knowledge.search import Passage, SentenceEncoder
from nlp.knowledge.store import DocumentInfo, KnowledgeBase, open_knowledge

__all__ = ["DocumentInfo", "KnowledgeBase", "Passage", "SentenceEncoder", "open_knowledge"]
