"""The wing that judges: the Log, feedback, monitors, and loops that make decisions."""
