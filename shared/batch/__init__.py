"""Bulk work: many inputs through one bundle, in shards that are whole or not there, so that a run can go on.

`inputs` reads what is asked, `plan` keeps what a run is of, `shards` answers and writes one shard, `pool` has the
processes and `cluster` Ray's, `run` puts them together for `percept batch`.
"""
