"""Codecs: one file each, for the kinds of values that steps return."""
