"""Pages that need no network and no service: what a command found, in one file that draws itself; pages in French."""

from __future__ import annotations

from shared.pages.page import render
from shared.pages.translating import translating

__all__ = ["render", "translating"]
