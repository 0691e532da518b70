"""Utterances made of others while training: two wishes at once, a wish taken back, and one that only sounds so.

Rules for English and French, and for other languages none: what they cannot make they leave alone.
"""

from __future__ import annotations

import random
import re

_ENGLISH = frozenset([
    "the", "a", "an", "i", "me", "my", "you", "your", "to", "of", "for", "is", "are", "what", "how", "when", "where",
    "please", "in", "on", "it", "this", "that",
])  # fmt: skip
_FRENCH = frozenset([
    "le", "la", "les", "un", "une", "des", "de", "du", "je", "j", "mon", "ma", "mes", "tu", "vous", "est", "quel",
    "s", "quelle", "quels", "comment", "où", "quand", "il", "que", "pour", "sur", "au", "aux", "en", "ce", "cette",
    "c", "qu", "moi", "toi", "veux", "voudrais",
])  # fmt: skip
_NEGATED = re.compile(
    r"\b(?:not|no|never|none|nor|without|stop|cancel|don'?t|doesn'?t|didn'?t|won'?t|can'?t|cannot|isn'?t|aren'?t"
    r"|wasn'?t|ne|n|pas|jamais|sans|plus|non|annule[rz]?|arrête[rz]?)\b",
    re.IGNORECASE,
)
_JOINED = {
    "en": (
        "{0} and {1}",
        "{0} and also {1}",
        "{0}, then {1}",
        "{0}. also, {1}",
        "{0} and after that {1}",
        "{0}, and {1}",
        "{0} and then {1}",
        "{0} plus {1}",
        "first {0}, then {1}",
        "{0}; {1}",
        "{0}. {1}",
        "{0} as well as {1}",
    ),
    "fr": (
        "{0} et {1}",
        "{0}, puis {1}",
        "{0} et aussi {1}",
        "{0}, et {1}",
        "{0} et ensuite {1}",
        "d'abord {0}, puis {1}",
        "{0} ; {1}",
        "{0}. {1}",
        "{0} ainsi que {1}",
    ),
}
_PREFACED_EN = re.compile(
    r"^(?:please |can you |could you |would you |will you |can u |go ahead and |i want you to |i need you to "
    r"|i'd like you to |help me |hey |kindly )+(?:please )?",
    re.IGNORECASE,
)
_WANTED_EN = re.compile(
    r"^(?:please )?(?:(?:i want|i need|i would like|i'd like|i wanna|i have|i am trying|i'm trying|i am looking"
    r"|i'm looking|let me|let's|can i|could i|may i)(?: to)? )",
    re.IGNORECASE,
)
_ASKED_EN = re.compile(
    r"^(?:what|what's|whats|which|who|who's|whose|when|when's|where|where's|why|how|how's|is|are|was|were|do|does|did|am|has"
    r"|have|should|will|would)\b",
    re.IGNORECASE,
)
_STATED_EN = re.compile(
    r"^(?:i|i'm|i've|my|the|there|it|its|it's|this|that|we|our|he|she|they|a|an|some|any|if|in|on|for|to|at)\b", re.I
)
_NOT_DONE_EN = (
    "do not {0}",
    "don't {0}",
    "please don't {0}",
    "please do not {0}",
    "never {0}",
    "i don't want you to {0}",
    "you should not {0}",
    "you don't need to {0}",
    "there is no need to {0}",
    "i did not ask you to {0}",
    "i'd rather you didn't {0}",
    "whatever you do, don't {0}",
    "i never said to {0}",
    "hold off, don't {0}",
    "i've changed my mind, don't {0}",
    "under no circumstances {0}",
    "no, do not {0}",
    "i'm not asking you to {0}",
)
_NOT_WANTED_EN = (
    "i don't want to {0}",
    "i do not want to {0}",
    "i no longer want to {0}",
    "i don't need to {0}",
    "i'd rather not {0}",
    "i wasn't trying to {0}",
    "i have no intention to {0}",
    "i'm not going to {0}",
    "i changed my mind, i won't {0}",
    "i don't wish to {0}",
    "i'm not looking to {0}",
    "i never wanted to {0}",
)
_NOT_ASKED_EN = (
    "i don't want to know {0}",
    "i'm not asking {0}",
    "i wasn't asking {0}",
    "don't tell me {0}",
    "i don't care {0}",
    "never mind {0}",
    "i don't need to know {0}",
    "do not tell me {0}",
    "i didn't ask {0}",
    "it's not that i want to know {0}",
    "no need to tell me {0}",
    "forget about {0}",
)
_STILL_EN = (
    "don't forget to {0}",
    "do not hesitate to {0}",
    "don't wait, {0}",
    "why don't you {0}",
    "if it's not too much, {0}",
    "i can't do this myself, {0}",
    "i don't know how, please {0}",
    "not sure if you can, but {0}",
    "could you not just {0}",
    "no rush, but {0}",
    "do not fail to {0}",
    "if you don't mind, {0}",
    "wouldn't you {0}",
)
_STILL_ASKED_EN = (
    "i don't know {0}",
    "i'm not sure {0}",
    "i can't remember {0}",
    "i have no idea {0}",
    "you didn't tell me {0}",
    "don't you know {0}",
    "i never found out {0}",
    "if you don't mind, {0}",
    "no rush, but {0}",
)
_PREFACED_FR = re.compile(
    r"^(?:s'il te pla[iî]t,? |s'il vous pla[iî]t,? |merci de |(?:est-ce que )?(?:tu peux|vous pouvez|peux-tu"
    r"|pouvez-vous|pourrais-tu|pourriez-vous) )+",
    re.IGNORECASE,
)
_WANTED_FR = re.compile(
    r"^(?:je (?:veux|voudrais|souhaite|souhaiterais|dois|vais)|j'aimerais|j'ai besoin (?:de |d'))(?: bien)? ?",
    re.IGNORECASE,
)
_ASKED_FR = re.compile(
    r"^(?:quel(?:le)?s?|qui|que|qu'|quand|où|comment|combien|pourquoi|est-ce|y a-t-il|c'est)\b|\?\s*$", re.IGNORECASE
)
_VERB_FR = re.compile(
    r"^(?P<verb>[a-zà-ÿ]+(?:e|s|z|is))(?P<object>-(?:moi|nous|le|la|les|lui))? (?P<rest>.+)$", re.IGNORECASE
)
_NOT_DONE_FR = (
    "il ne faut pas {0}",
    "inutile de {0}",
    "je ne veux pas {0}",
    "surtout ne pas {0}",
    "je ne souhaite pas {0}",
    "pas la peine de {0}",
    "je n'ai pas demandé de {0}",
    "je ne veux plus {0}",
)
_NOT_ASKED_FR = (
    "je ne demande pas {0}",
    "je ne veux pas savoir {0}",
    "ne me dis pas {0}",
    "peu importe {0}",
    "je n'ai pas besoin de savoir {0}",
    "pas la peine de me dire {0}",
)
_STILL_FR = (
    "n'oublie pas : {0}",
    "si ça ne te dérange pas, {0}",
    "je n'y arrive pas seul, {0}",
    "n'hésite pas, {0}",
    "je ne sais pas faire, {0}",
)
_MOST_WORDS = 25
"""Longer utterances have several sentences, of which one is rarely what is wanted."""


def language_of(text: str) -> str | None:
    """Return "en" or "fr", whichever has more of its small words in the text; None if neither has any.

    >>> language_of("send money to my mum"), language_of("envoie de l'argent à ma mère"), language_of("guten Tag")
    ('en', 'fr', None)
    """
    words = re.findall(r"[^\W\d_]+", text.lower())
    english, french = (sum(word in known for word in words) for known in (_ENGLISH, _FRENCH))
    return None if english == french == 0 else "fr" if french > english else "en"


def two_wishes(first: str, second: str, rng: random.Random) -> tuple[str, int, int]:
    """Return an utterance that wants both, and where in it the two begin.

    >>> two_wishes("play jazz", "call my mum", random.Random(3))
    ('play jazz. also, call my mum', 0, 17)
    """
    form = rng.choice(_JOINED[language_of(f"{first} {second}") or "en"])
    before, between, behind = re.split(r"\{[01]\}", form)
    first = first.rstrip(" .!?;,")
    return f"{before}{first}{between}{second}{behind}", len(before), len(before) + len(first) + len(between)


def taken_back(text: str, rng: random.Random) -> str | None:
    """Return an utterance that says that this one is not wanted; None where no rule fits.

    >>> taken_back("please send money to my mum", random.Random(0))
    'i never said to send money to my mum'
    >>> taken_back("what is my balance", random.Random(0))
    "i don't need to know what is my balance"
    >>> taken_back("transfère de l'argent à ma mère", random.Random(1))
    "ne transfère pas de l'argent à ma mère"
    """
    return _said_otherwise(text, rng, is_still=False)


def still_wanted(text: str, rng: random.Random) -> str | None:
    """Return an utterance that has a negation in it and wants what this one wants; None where no rule fits.

    >>> still_wanted("please send money to my mum", random.Random(1))
    "don't wait, send money to my mum"
    """
    return _said_otherwise(text, rng, is_still=True)


def _said_otherwise(text: str, rng: random.Random, *, is_still: bool) -> str | None:
    if _NEGATED.search(text) or not 2 <= len(text.split()) <= _MOST_WORDS:
        return None
    language = language_of(text)
    if language == "fr":
        return _french(text, rng, is_still=is_still)
    return _english(text, rng, is_still=is_still) if language == "en" else None


def _english(text: str, rng: random.Random, *, is_still: bool) -> str | None:
    plain = _PREFACED_EN.sub("", text)
    if wanted := _WANTED_EN.match(plain):
        rest = plain[wanted.end() :]
        return rng.choice(_STILL_EN if is_still else _NOT_WANTED_EN).format(rest) if rest else None
    if _ASKED_EN.match(plain):
        return rng.choice(_STILL_ASKED_EN if is_still else _NOT_ASKED_EN).format(plain)
    if not plain or _STATED_EN.match(plain):
        return None
    return rng.choice(_STILL_EN if is_still else _NOT_DONE_EN).format(plain)


def _french(text: str, rng: random.Random, *, is_still: bool) -> str | None:
    if is_still:
        return rng.choice(_STILL_FR).format(text)
    for infinitive in (_WANTED_FR, _PREFACED_FR):
        if (found := infinitive.match(text)) and text[found.end() :]:
            return rng.choice(_NOT_DONE_FR).format(text[found.end() :])
    if _ASKED_FR.search(text):
        return rng.choice(_NOT_ASKED_FR).format(text.rstrip(" ?"))
    verb = _VERB_FR.match(text)
    if verb is None or verb["verb"].lower() in _FRENCH:
        return None
    of_whom = {"-moi": "me "}.get(verb["object"] or "", (verb["object"] or "")[1:] + " " if verb["object"] else "")
    starts_with_vowel = (of_whom or verb["verb"])[0].lower() in "aeiouyéèêàâîôhœ"
    negation = "n'" if starts_with_vowel else "ne "
    return f"{rng.choice(('', 'surtout, '))}{negation}{of_whom}{verb['verb']} pas {verb['rest']}"
