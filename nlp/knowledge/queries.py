"""A question to a search expression of FTS5: its words without those that every question has, quoted, joined by OR.

Neighbour: `index` searches by it and says what the choice was measured against.
"""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 64
"""Of a question are searched; the longest of 11,000 questions that it was tried on has 40."""
MAX_CHARS = 4000
_WORD = re.compile(r"\w+")
_ENGLISH_WORDS = """
    a about above after again all also am an and any are as at be because been before being below between both
    but by can could did do does doing down during each few for from further give had has have having he her
    here hers him his how i if in into is it its itself just know many may me more most much my no nor not of
    off on once only or other our out over own please s same say shall she should so some such t tell than that
    the their them then there these they this those through to too under until up very was we were what when
    where which while who whom whose why will with would you your
"""
_FRENCH_WORDS = """
    a ai ainsi alors après as au aucun aussi autre aux avait avant avec avez avoir avons c ce cela celle celles
    celui ces cet cette ceux chez ci combien comme comment d dans de depuis des dis dites donc dont du elle
    elles en encore entre es est et eu faire fait faut fut ici il ils j je l la laquelle le lequel les
    lesquelles lesquels leur leurs lors lui là m ma mais me mes moi mon même n ne ni nos notre nous on ont ou où
    par parmi pas pendant peu peut peux plus pour pourquoi pouvez puis qu quand que quel quelle quelles quels
    qui quoi s sa sans se sera ses si son sont sous sur t ta te tes toi ton tous tout toute toutes très tu un
    une vers vos votre vous y à ça étaient était été être
"""
_ENGLISH, _FRENCH = frozenset(_ENGLISH_WORDS.split()), frozenset(_FRENCH_WORDS.split())


def words_of(question: str) -> list[str]:
    """Return the words that are searched, each once, in their order; function words only where there are no others.

    The list of the language that more words belong to counts: French "comment" (how) is no stop word in English.

    >>> words_of("How do I reset my password?"), words_of("Comment réinitialiser mon mot de passe ?")
    (['reset', 'password'], ['réinitialiser', 'mot', 'passe'])
    """
    text = unicodedata.normalize("NFC", question[:MAX_CHARS].replace("’", "'")).lower()
    words = list(dict.fromkeys(_WORD.findall(text)))
    english, french = (sum(word in each for word in words) for each in (_ENGLISH, _FRENCH))
    stopped = _ENGLISH & _FRENCH
    if english != french:
        stopped = _ENGLISH if english > french else _FRENCH
    return ([word for word in words if word not in stopped] or words)[:MAX_WORDS]


def match_expression(question: str) -> str | None:
    """Return the expression that FTS5 searches by; None where the question holds no word.

    >>> match_expression('serve" OR NEAR(*')
    '"serve" OR "near"'
    """
    return " OR ".join(f'"{word}"' for word in words_of(question)) or None
