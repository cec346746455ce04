"""The parts that a step's code is made of, and whole modules as parts where names lead nowhere."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
from blake3 import blake3

from upturn.core.owncode import is_own_file
from upturn.develop.distributions import versions
from upturn.develop.names import Chain, Import, Uses
from upturn.develop.source import (
    cells,
    home_of,
    locate,
    module_name,
    own_files_in,
    source_of,
)

Kind = Literal["function", "class", "constant", "module", "distribution", "python", "opaque"]

DYNAMIC = {
    "builtins": {"getattr", "exec", "eval", "globals", "vars", "locals", "__import__"},
    "importlib": {"import_module", "__import__"},
    "runpy": {"run_path", "run_module"},
    "sys": {"modules"},
}
# Of these, what can reach a module that nothing imports by name.
_ANYWHERE = {"exec", "eval", "__import__", "import_module", "run_path", "run_module", "modules"}


class Part(msgspec.Struct, frozen=True):
    """One thing that a step's result depends on: its name, digest, and source for a diff.

    The reason says why a part is taken whole: the code that could not be followed, and where.
    """

    name: str
    kind: Kind
    digest: str
    source: str
    reason: str = ""


class Parts:
    """The parts found so far."""

    def __init__(self) -> None:
        self.found: dict[str, Part] = {}
        self._tops: set[str] = set()  # of which the distributions were added
        self._projects: set[str] = set()  # that were added whole

    def add(
        self, name: str, kind: Kind, source: str, content: str | None = None, reason: str = ""
    ) -> None:
        """Add a part; its digest is that of `content`, or of its source."""
        text = source if content is None else content
        digest = blake3(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        other = self.found.get(name)
        if other is not None and other.digest != digest:
            name = f"{name} ({digest[:8]})"
        self.found[name] = Part(name, kind, digest, source, reason)

    def distribution(self, module: str) -> None:
        """Add the distributions behind a module that is not the user's own."""
        top = module.partition(".")[0]
        if top in self._tops:
            return
        self._tops.add(top)
        for name, version in versions(top).items():
            self.add(f"distribution {name}", "distribution", version)

    def whole_of(self, namespace: dict[str, Any], reason: str, *, anywhere: bool = False) -> str:
        """Add the source of the namespace's module, and of the user's modules it imports.

        `anywhere`: what could not be followed can lead to any module of the project.
        """
        file = namespace.get("__file__") or next(iter(namespace.get("__path__") or ()), None)
        name = module_name(namespace)
        if file is None:
            self.add(f"module {name}", "opaque", cells(), reason=reason)
        else:
            self.whole(name, file, package_of(namespace), reason)
        if anywhere:
            self.project(home_of(file, package_of(namespace)) if file else os.getcwd(), reason)
        return f"module {name}"

    def whole(self, name: str, file: str, package: str, reason: str) -> None:
        """The same for a module by its name, its file, and the package for its relative imports."""
        waiting = [(name, file, package)]
        while waiting:
            name, file, package = waiting.pop()
            if f"module {name}" in self.found:
                continue
            source = source_of(file)
            if source is None:
                self.add(f"module {name}", "opaque", text_of(file), reason=reason)
                continue
            self.add(f"module {name}", "opaque", source.whole, reason=reason)
            used = source.uses(source.tree)
            for item in used.imports:
                waiting.extend(self._loaded_by(item, package))
            found = leads_anywhere(used)
            if found is not None:
                self.project(home_of(file, package), f"{used.said(found)} in {name}")

    def project(self, home: str, reason: str) -> None:
        """Add every file of a project."""
        if home in self._projects:
            return
        self._projects.add(home)
        for file in own_files_in(home):
            name = os.path.relpath(file, home)
            self.add(f"file {name}", "opaque", text_of(file), reason=reason)

    def _loaded_by(self, item: Import, package: str) -> list[tuple[str, str, str]]:
        """The user's modules that an import can load: it, the packages around it, a submodule."""
        target = absolute(item, package)
        parts = target.split(".")
        names = [".".join(parts[: end + 1]) for end in range(len(parts))]
        if item.path:
            names.append(f"{target}.{item.path[0]}")
        found: list[tuple[str, str, str]] = []
        for name in names:
            file = locate(name)
            if file is None or not is_own_file(file):
                self.distribution(name)
            else:
                found.append((name, file, package_in(name, file)))
        return found


def text_of(file: str) -> str:
    """A file's normalised source, or its digest when it has none; for a folder, of all in it."""
    if os.path.isdir(file):
        found = own_files_in(file)
        return "\n".join(f"# {os.path.relpath(one, file)}\n{text_of(one)}" for one in found)
    source = source_of(file)
    return blake3(Path(file).read_bytes()).hexdigest() if source is None else source.whole


def absolute(item: Import, package: str) -> str:
    """The absolute name of an imported module."""
    if not item.level:
        return item.module
    base = package.split(".")
    base = base[: len(base) - item.level + 1]
    return ".".join([*base, item.module] if item.module else base)


def package_of(namespace: dict[str, Any]) -> str:
    """The package that a module's relative imports start from."""
    return namespace.get("__package__") or ""


def package_in(name: str, file: str) -> str:
    """The same for a module that may not be loaded."""
    is_package = Path(file).stem == "__init__" or Path(file).is_dir()
    return name if is_package else name.rpartition(".")[0]


def is_dynamic(item: Import) -> bool:
    """Whether it imports what reaches code that no name leads to."""
    return bool(item.path) and item.path[0] in DYNAMIC.get(item.module, ())


def is_anywhere(name: str) -> bool:
    """Whether what is called so can lead to a module which nothing imports by name."""
    return name in _ANYWHERE


def leads_anywhere(used: Uses) -> Chain | Import | None:
    """The first use that can lead to a module which nothing imports by name."""
    for chain in used.chains:
        if len(chain) == 1 and chain[0] in DYNAMIC["builtins"] & _ANYWHERE:
            return chain
    for item in used.imports:
        if is_dynamic(item) and item.path and item.path[0] in _ANYWHERE:
            return item
    return None
