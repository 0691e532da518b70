from __future__ import annotations

from shared.exploring.languages import is_foreign, languages_of

ENGLISH = ["what is the balance of my account", "wake me up at seven tomorrow", "please play something by mozart"] * 10
FRENCH = ["quel est le solde de mon compte", "réveille-moi demain à sept heures", "mets quelque chose de mozart"] * 10
GERMAN = "wie hoch ist der Stand von meinem Konto"
SPANISH = "cuánto dinero me queda en la cuenta este mes"


def test_an_utterance_in_another_language_is_foreign_even_where_two_others_are_alike():
    assert all(is_foreign(text, ["en"]) for text in (*FRENCH, GERMAN, SPANISH))
    assert not any(is_foreign(text, ["en"]) for text in ENGLISH)
    assert not any(is_foreign(text, ["en", "fr"]) for text in (*ENGLISH, *FRENCH))
    assert is_foreign(GERMAN, ["en", "fr"])


def test_short_texts_names_and_numbers_are_never_foreign():
    for text in ("ok", "pizza", "non merci", "Guten Tag", "12 34 56 78", "?!", "", "好的", "👍 👍 👍"):
        assert not is_foreign(text, ["en"]), text


def test_with_a_language_that_cannot_be_told_nothing_is_foreign():
    assert not is_foreign(GERMAN, ["tlh"])
    assert not is_foreign(GERMAN, ["en", "tlh"])


def test_languages_of_texts_are_found_the_most_frequent_first():
    assert languages_of([*ENGLISH, *FRENCH, *FRENCH]) == ("fr", "en")
    assert languages_of(ENGLISH) == ("en",)


def test_languages_are_not_named_for_few_short_or_odd_texts():
    assert languages_of(ENGLISH[:5]) == ()
    assert languages_of(["ok", "pizza"] * 50) == ()
    odd = [GERMAN, *ENGLISH * 4]  # one in 121: too rare for a language, too many to be strays
    assert languages_of(odd) == ()
    assert languages_of([]) == ()
