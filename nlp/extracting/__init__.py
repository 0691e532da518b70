"""Built-in extractors: numbers, dates, times, durations, money, e-mail and web addresses and telephone numbers.

They are rules for English and French, and need no model. Every pattern takes time in proportion to the text.
"""

from nlp.extracting.asking import Asking, Extracted

__all__ = ["Asking", "Extracted"]
