"""Pages that need no network and no service: what a command found, in one file that draws itself."""

from __future__ import annotations

from shared.pages.page import render

__all__ = ["render"]
