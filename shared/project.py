"""Where Percept's code is, and the files that come with it: documentation, recipes, starter models."""

from __future__ import annotations

from pathlib import Path

CODE_ROOT = Path(__file__).resolve().parents[1]
"""The folder that our packages are imported from: a checkout, a bento's `src`, or site-packages."""
_IN_WHEEL = Path(__file__).resolve().parent / "shipped"
PROJECT_ROOT = _IN_WHEEL if _IN_WHEEL.is_dir() else CODE_ROOT
"""The folder that has README.md, docs/ and configs/; a wheel has them in a folder of their own (see pyproject.toml)."""
IS_INSTALLED = PROJECT_ROOT != CODE_ROOT
"""Whether this runs from a wheel, which has neither the starter models nor the files that bentos are built from."""
