"""The server that all tests here ask."""

from tests.no_way_in.site import site

__all__ = ["site"]
