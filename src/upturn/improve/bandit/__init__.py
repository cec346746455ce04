"""Bandits: arms whose shares follow what they earn."""
