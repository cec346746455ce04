"""Upturn's own tracking SDK: the journal under `up.log`, and what brings it into a store."""
