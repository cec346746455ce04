"""Stores: metadata on SQLite, blobs on disk, the Log's journals, and codecs by type."""
