"""Loading the user's own code: a file as a module, what it names, which libraries it imports."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.develop.own_modules import OwnLoader, import_own


def load_file(path: Path, *, name: str | None = None) -> ModuleType:
    """The file as a module, loaded once, with its directory first on the path as for a script.

    Raises NotFound when there is no such file. What the file itself raises passes through.
    """
    path = path.resolve()
    name = name or _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None and _is_of(loaded, path):
        return loaded
    if not path.is_file():
        near = (
            [str(other.name) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        )
        raise NotFound(f"No file {path}.", hint=did_you_mean(path.name, near), file=str(path))
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    import_own(path.parent)
    loader = OwnLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} is not a Python file.", file=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if name == "__mp_main__":
        sys.modules["__main__"] = module  # so that pickles of a script's classes find them
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def load_module(name: str) -> ModuleType:
    """The importable module of that name."""
    import_own(Path.cwd())
    return importlib.import_module(name)


def lookup(module: ModuleType, qualified: str) -> Any:
    """What a dotted name means in a module. Raises NotFound with the nearest name there."""
    found: Any = module
    for part in qualified.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [key for key in vars(found) if not key.startswith("_")]
            raise NotFound(
                f"No {part!r} in {getattr(module, '__file__', module.__name__)}.",
                hint=did_you_mean(part, names),
            ) from None
    return found


def third_party_imports(path: Path) -> list[str]:
    """Names of the modules outside the file's own directory that it imports at its top level.

    Of MLflow's client: anywhere.

    Read from its syntax, so that a fork server can import them while the driver does the same; the
    project's own modules are followed.
    """
    names: list[str] = []
    _collect(path.resolve(), path.resolve().parent, names, {})
    return names


def own_files(path: Path) -> list[Path]:
    """The file and those beside it that it imports anywhere, in the order in which they are met."""
    seen: dict[Path, None] = {}
    _collect(path.resolve(), path.resolve().parent, [], seen)
    return list(seen)


def _collect(path: Path, root: Path, names: list[str], seen: dict[Path, None]) -> None:
    if path in seen:
        return
    seen[path] = None
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # the driver reports it
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        modules, members = _imported(node)
        own = [file for name in modules + members if (file := _own_file(name, root)) is not None]
        for file in own:
            _collect(file, root, names, seen)
        if not own:
            names += [n for n in modules if _is_to_preload(n, at_top=id(node) in top)]


def _is_to_preload(module: str, *, at_top: bool) -> bool:
    distribution = module.partition(".")[0]
    # A worker in which MLflow was used is no one's after that: the next one has it already.
    return distribution == "mlflow" or (at_top and distribution not in sys.stdlib_module_names)


def _imported(node: ast.AST) -> tuple[list[str], list[str]]:
    """The modules that a statement imports, and what may be modules too: members of a folder."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names], []
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module], [f"{node.module}.{alias.name}" for alias in node.names]
    return [], []


def _own_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _module_name(path: Path) -> str:
    taken = sys.modules.get(path.stem)
    if taken is None or _is_of(taken, path):
        return path.stem
    return f"upturn_user_{path.stem}"


def _is_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path
