"""Schedules: what starts runs, by the clock and by what happened."""
