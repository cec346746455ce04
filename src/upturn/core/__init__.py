"""The core: records, ids, errors, settings, time, lineage, and the stores' protocols."""
