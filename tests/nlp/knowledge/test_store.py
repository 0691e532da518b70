from __future__ import annotations

import logging
import re
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp.knowledge import DocumentInfo, KnowledgeBase, Passage, store
from shared.errors import ConfigError, InputError, NotFound, NotReady, TooLarge, UnsupportedMedia
from tests.nlp.knowledge.pdfs import make_pdf

MUSEUM = """# The lamp museum

Founded in 1891 by the keeper's widow.

## Opening hours

Open from 9 to 5, closed on Mondays.

## Prices

Adults pay ten euros, children nothing.
"""
MUSEE = """# Le musée des phares

## Horaires d'ouverture

Ouvert de 9 h à 17 h, fermé le lundi.

## Tarifs

Les adultes paient dix euros ; c'est gratuit pour les élèves.
"""


def first(knowledge: KnowledgeBase, question: str) -> Passage:
    return knowledge.search(question)[0]


def test_put_document_is_found_with_source_passage_and_offsets(knowledge: KnowledgeBase):
    info, is_new = knowledge.put("museum.md", MUSEUM.encode())
    assert is_new
    assert (info.id, info.title, info.media_type, info.passages) == ("museum.md", "The lamp museum", "text/markdown", 3)
    assert info.characters == len(knowledge.text("museum.md"))
    assert len(info.sha256) == 64
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info.updated)
    assert knowledge.get("museum.md") == info
    assert knowledge.list() == [info]
    found = first(knowledge, "When is it open?")
    assert (found.document, found.title, found.headings) == ("museum.md", "The lamp museum", ("Opening hours",))
    assert found.text == "Open from 9 to 5, closed on Mondays."
    assert knowledge.text("museum.md")[found.start : found.end] == found.text
    assert found.score > 0


@pytest.mark.parametrize(
    ("question", "document", "headings"),
    [
        ("what are the opening hours", "museum.md", ("Opening hours",)),
        ("how much do children pay?", "museum.md", ("Prices",)),
        ("who founded the museum", "museum.md", ()),
        ("À quelle heure est-ce ouvert ?", "musee.md", ("Horaires d'ouverture",)),
        ("quels sont les tarifs pour un eleve", "musee.md", ("Tarifs",)),
        ("L'HORAIRE", "musee.md", ("Horaires d'ouverture",)),
    ],
)
def test_english_and_french_documents_are_both_found_with_or_without_accents(
    knowledge: KnowledgeBase, question: str, document: str, headings: tuple[str, ...]
):
    knowledge.put("museum.md", MUSEUM.encode())
    knowledge.put("musee.md", MUSEE.encode())
    found = first(knowledge, question)
    assert (found.document, found.headings) == (document, headings)


def test_replaced_document_is_found_by_its_new_words_alone(knowledge: KnowledgeBase):
    knowledge.put("a.txt", b"the lamp burns oil")
    info, is_new = knowledge.put("a.txt", b"the lamp burns gas now", title="Lamps")
    assert not is_new
    assert knowledge.list() == [info]
    assert info.title == "Lamps"
    assert knowledge.search("oil") == []
    assert first(knowledge, "gas").title == "Lamps"


def test_removed_document_is_not_found(knowledge: KnowledgeBase):
    knowledge.put("a.txt", b"the lamp burns oil")
    knowledge.put("b.txt", b"the lamp burns gas")
    knowledge.delete("a.txt")
    assert [found.document for found in knowledge.search("lamp oil")] == ["b.txt"]
    for call in (knowledge.get, knowledge.text, knowledge.delete):
        with pytest.raises(NotFound, match=r"no document 'a\.txt'"):
            call("a.txt")


def test_all_is_there_after_a_restart(file: Path):
    knowledge = KnowledgeBase(file)
    info, _ = knowledge.put("museum.md", MUSEUM.encode())
    found = knowledge.search("opening hours")
    knowledge.close()
    again = KnowledgeBase(file)
    assert again.list() == [info]
    assert again.search("opening hours") == found
    again.close()


def test_unchanged_document_stays_untouched_but_a_new_title_or_kind_counts(knowledge: KnowledgeBase):
    content = b"# Lamps\n\noil"
    first_info, _ = knowledge.put("a.md", content)
    with_key = "SELECT key FROM documents"
    with knowledge._database.reading() as connection:
        key = connection.execute(with_key).fetchone()
    assert knowledge.put("a.md", content) == (first_info, False)
    with knowledge._database.reading() as connection:
        assert connection.execute(with_key).fetchone() == key
    assert knowledge.put("a.md", content, title="Other")[0].title == "Other"
    assert knowledge.put("a.md", content, media_type="text/plain")[0].title == "A"
    assert knowledge.text("a.md") == "# Lamps\n\noil"


def test_every_kind_of_document_is_found(knowledge: KnowledgeBase):
    knowledge.put("a.html", b"<h1>Lamp</h1><p>paraffin")
    knowledge.put("b.pdf", make_pdf(["kerosene"], title="Fuel"))
    knowledge.put("c", b"acetylene", media_type="text/plain")
    assert first(knowledge, "paraffin").title == "Lamp"
    assert (first(knowledge, "kerosene").title, first(knowledge, "kerosene").headings) == ("Fuel", ("Page 1",))
    assert first(knowledge, "acetylene").title == "C"


@pytest.mark.parametrize(
    ("name", "content", "media_type", "error"),
    [
        ("../a.md", b"words", None, InputError),
        ("a.md", b"", None, InputError),
        ("a.md", b"\xff\x00\xfe", None, InputError),
        ("a.pdf", b"words", None, InputError),
        ("a.odt", b"words", None, UnsupportedMedia),
        ("a", b"words", "image/png", UnsupportedMedia),
        ("a.md", b"a" * 101, None, TooLarge),
    ],
)
def test_document_that_cannot_be_used_is_refused_and_what_was_there_stays(
    file: Path, name: str, content: bytes, media_type: str | None, error: type[Exception]
):
    knowledge = KnowledgeBase(file, max_bytes=100)
    info, _ = knowledge.put("a.md", b"the lamp")
    with pytest.raises(error):
        knowledge.put(name, content, media_type=media_type)
    assert knowledge.list() == [info]
    assert first(knowledge, "lamp").text == "the lamp"
    knowledge.close()


def test_limits_are_named(file: Path, monkeypatch: pytest.MonkeyPatch):
    knowledge = KnowledgeBase(file, max_documents=1, max_bytes=100)
    with pytest.raises(TooLarge, match=r"has 101 bytes; the limit is 100\. Split it"):
        knowledge.put("a.txt", b"a" * 101)
    knowledge.put("a.txt", b"one")
    knowledge.put("a.txt", b"another")
    with pytest.raises(TooLarge, match="is full: 1 documents"):
        knowledge.put("b.txt", b"two")
    monkeypatch.setattr(store, "MAX_PASSAGES", 1)
    with pytest.raises(TooLarge, match="has 2 passages; the limit is 1"):
        knowledge.put("a.md", b"# a\nb\n# c\nd")
    knowledge.close()


def test_same_text_in_two_documents_is_found_once(knowledge: KnowledgeBase):
    story = "The keeper lit the lamp every night for forty years and never missed one."
    for name in ("a.txt", "b.txt", "c.txt"):
        knowledge.put(name, story.encode())
    knowledge.put("d.txt", story.upper().replace("FORTY YEARS", "FORTY  YEARS!").encode())
    knowledge.put("e.txt", b"The keeper slept all day.")
    assert [found.document for found in knowledge.search("keeper", 5)] == ["e.txt", "a.txt"]


@pytest.mark.parametrize("question", ["", " ", "?!", "\x00", "\ud800", '"', "zebra"])
def test_question_without_a_known_word_finds_nothing(knowledge: KnowledgeBase, question: str):
    knowledge.put("a.txt", b"the lamp burns oil")
    assert knowledge.search(question) == []


def test_empty_knowledge_base_finds_nothing(knowledge: KnowledgeBase):
    assert knowledge.search("lamp") == []
    assert knowledge.list() == []


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_limit_out_of_range_is_refused(knowledge: KnowledgeBase, limit: int):
    with pytest.raises(InputError, match="must be 1 to 100"):
        knowledge.search("lamp", limit)


def test_folder_is_read_once_and_what_is_broken_is_logged_and_left(
    knowledge: KnowledgeBase, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "docs"
    (folder / "fr").mkdir(parents=True)
    (folder / "museum.md").write_text(MUSEUM)
    (folder / "fr" / "musée.md").write_text(MUSEE)
    (folder / "broken.pdf").write_bytes(b"nothing of a PDF")
    with caplog.at_level(logging.WARNING):
        added = knowledge.add_folder(folder)
    assert [info.id for info in added] == ["museum.md", "fr/musée.md"]
    assert [record.message for record in caplog.records] == [
        "broken.pdf was left out of the knowledge base: the document is not a PDF: it does not begin with %PDF-. "
        "Send the file as it is."
    ]
    assert knowledge.add_folder(folder) == []
    (folder / "museum.md").write_text(MUSEUM.replace("Mondays", "Tuesdays"))
    (folder / "fr" / "musée.md").unlink()
    assert [info.id for info in knowledge.add_folder(folder)] == ["museum.md"]
    assert [info.id for info in knowledge.list()] == ["fr/musée.md", "museum.md"]


def test_folder_that_is_not_there_is_named(knowledge: KnowledgeBase, tmp_path: Path):
    with pytest.raises(ConfigError, match="gone is not a folder"):
        knowledge.add_folder(tmp_path / "gone")


def test_many_threads_put_search_and_list_at_once(knowledge: KnowledgeBase):
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                knowledge.put(f"{number}.txt", f"lamp {number} turn {turn}".encode())
                assert first(knowledge, f"lamp {number}").text.startswith("lamp")
                assert knowledge.get(f"{number}.txt").characters == len(knowledge.text(f"{number}.txt"))
                knowledge.list()
        except BaseException as error:  # noqa: BLE001 shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [info.id for info in knowledge.list()] == [f"{number}.txt" for number in range(6)]


def test_closed_knowledge_base_says_so(file: Path):
    knowledge = KnowledgeBase(file)
    knowledge.close()
    knowledge.close()
    for call in (knowledge.list, lambda: knowledge.search("a"), lambda: knowledge.put("a", b"a")):
        with pytest.raises(NotReady, match="the knowledge base is closed"):
            call()


def test_what_is_known_of_documents_and_passages_is_what_callers_were_promised():
    names = [field.name for field in fields(DocumentInfo)]
    assert names == ["id", "title", "media_type", "passages", "characters", "sha256", "updated"]
    names = [field.name for field in fields(Passage)]
    assert names == [
        *("document", "title", "headings", "text", "start", "end", "score"),
        *("kind", "lead", "page", "cells", "words", "meaning"),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.text(
        st.one_of(
            st.sampled_from("ab .\n\r\u00ad\u0301é\u200d👩<#*-|\x00\u2028"), st.characters(exclude_categories=["Cs"])
        )
    ),
    kind=st.sampled_from(["text/plain", "text/markdown", "text/html"]),
)
def test_a_passage_is_the_documents_text_from_start_to_end_whatever_it_holds(
    knowledge: KnowledgeBase, text: str, kind: str
):
    knowledge.put("a", f"needle {text}\n\nneedle {text} needle".encode(), media_type=kind)
    whole = knowledge.text("a")
    found = knowledge.search("needle", 100)
    assert found
    for passage in found:
        assert whole[passage.start : passage.end] == passage.text
    knowledge.delete("a")


def test_index_holds_what_the_documents_hold(knowledge: KnowledgeBase):
    for turn in range(3):
        knowledge.put("a.md", MUSEUM.encode() * (turn + 1))
        knowledge.put("b.md", MUSEE.encode())
    knowledge.delete("b.md")
    check_index(knowledge)


def check_index(knowledge: KnowledgeBase) -> None:
    """Have FTS5 compare its index with the passages, word by word."""
    with knowledge._database.transaction() as connection:
        for table in ("stems", "forms"):
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")  # noqa: S608
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
