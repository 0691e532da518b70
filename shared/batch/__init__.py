"""Bulk work: many inputs through one bundle, in shards that are whole or not there, so that a run can continue."""
