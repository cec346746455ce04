"""What ties a process to the one that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, how: signal.Signals) -> None:
    """Have the kernel send this process the signal once its parent has died, where it can (Linux).

    `parent` is the parent's id as the parent knows it: when it died before this was called, the
    signal comes at once. The parent is to start this process from its main thread: the kernel looks
    at that thread's end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os.kill(os.getpid(), how)
