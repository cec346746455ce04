"""Bundles: folders that serve an endpoint with no store at hand."""
