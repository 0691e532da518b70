"""A process that writes to a knowledge base without end: `test_database` runs several of it and kills some.

python -m tests.nlp.knowledge.writer FILE NAME [ROUNDS]
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from nlp.knowledge import KnowledgeBase

PARAGRAPH_WORDS = 90


def version(number: int) -> bytes:
    """Return a document each of whose paragraphs says which version it is of; the number of paragraphs varies."""
    paragraph = f"version{number} " * PARAGRAPH_WORDS
    return "\n\n".join([paragraph] * (5 + number % 40)).encode()


def main(file: str, name: str, rounds: str = "") -> None:
    knowledge = KnowledgeBase(Path(file))
    print("open", flush=True)
    for number in range(int(rounds)) if rounds else count():
        knowledge.put("shared.txt", version(number) + f" {name}".encode())
        knowledge.put(f"{name}.txt", version(number))
        if not rounds and number % 5 == 4:
            knowledge.delete(f"{name}.txt")


if __name__ == "__main__":
    main(*sys.argv[1:])
