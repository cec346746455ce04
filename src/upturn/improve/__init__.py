"""The wing that judges: the Log, feedback, monitors, and loops that turn evidence into decisions."""
