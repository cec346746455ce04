"""Whether what runs now is a rehearsal, whose versions nothing deploys unasked."""

from contextvars import ContextVar

rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)
