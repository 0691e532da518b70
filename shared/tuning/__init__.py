"""Choosing with evidence: bundles beside each other on the same examples."""
