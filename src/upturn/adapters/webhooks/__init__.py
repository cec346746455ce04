"""Webhooks: events told to addresses, signed as Standard Webhooks has it."""
