"""Monitoring: what a model answers now beside what it answered before, and how good its answers are."""
