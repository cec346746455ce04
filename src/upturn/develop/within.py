"""Starts a fork server with an environment's Python: a script, run before Upturn can be imported.

Arguments: the file descriptor, Upturn's folder, the environment's folder, how many folders come
first on the path, those, and those that come last.
"""

import contextlib
import importlib.util
import os
import pathlib
import sys
from typing import NoReturn


def main() -> None:
    """Put the path in order, take Upturn from the folder that the driver has it from, and serve."""
    fd, package, env, count, *folders = sys.argv[1:]
    first, last = folders[: int(count)], folders[int(count) :]
    sys.path[:] = [*first, *sys.path, *last]
    sys.argv[1:] = [fd]
    _activate(env)
    # Python 3.13 pickles a Path as of this module, which older ones don't have.
    sys.modules.setdefault("pathlib._local", pathlib)
    try:
        _import_from(package)
        from upturn.develop import forkserver
    except ImportError as error:
        _give_up(env, error)
    forkserver.run()


def _give_up(env: str, error: ImportError) -> NoReturn:
    """Upturn can't be imported: somebody took from the environment what the lock put there."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(env, ".ready"))
    sys.exit(f"The environment {env} is damaged: {error}. The next run builds it again.")


def _activate(env: str) -> None:
    """What a step starts finds this Python, and not the packages of another."""
    os.environ["VIRTUAL_ENV"] = env
    os.environ["PATH"] = os.pathsep.join((os.path.join(env, "bin"), os.environ.get("PATH", "")))
    for name in ("PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(name, None)


def _import_from(package: str) -> None:
    """By its real path, not by a link to it: it is known by that which code is Upturn's own."""
    spec = importlib.util.spec_from_file_location(
        "upturn", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["upturn"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
