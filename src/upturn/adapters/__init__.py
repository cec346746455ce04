"""The interfaces of others, spoken by our own parts."""
