"""Speed on this machine, Percept beside what people use instead, in one run. docs/benchmark.md explains it."""
