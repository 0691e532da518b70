"""Compares the speed of Percept with its alternatives on this machine. docs/benchmark.md explains it."""
