"""The workers' C library is told to give memory back; what who starts the service set stays."""

from __future__ import annotations

import os

import pytest

from shared.serving.host.carrier import MALLOC, keep_memory_flat


def test_processes_that_are_started_give_memory_back_and_what_is_set_stays(monkeypatch: pytest.MonkeyPatch):
    environment = {"MALLOC_ARENA_MAX": "7"}
    monkeypatch.setattr(os, "environ", environment)
    keep_memory_flat()
    assert environment == MALLOC | {"MALLOC_ARENA_MAX": "7"}
