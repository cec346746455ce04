"""Rehearsing: policies run over one past at once, judged, compared and shown."""
