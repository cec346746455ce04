"""Tracking stores: where metrics, parameters, tags and files of runs are kept."""
