"""What can be asked of a workspace: the same over HTTP, from Python and from the command line."""
