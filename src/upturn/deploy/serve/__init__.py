"""The prediction path, from socket to socket."""
