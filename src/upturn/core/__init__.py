"""The core: records, ids, errors, settings, time and lineage, and the protocols that stores implement."""
