"""Settings read from an environment of the test's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from unittest import mock

from shared.serving.settings import Settings, read_settings


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings of a process that has these variables and no others."""
    with mock.patch.dict(os.environ, environment, clear=True):
        return read_settings()
