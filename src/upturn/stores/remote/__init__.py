"""A store over HTTP: what a workspace is made of when a server keeps things."""
