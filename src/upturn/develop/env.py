"""Env: the packages and the Python that a step runs with, in place of the flow's own."""

import re
import sys
from dataclasses import dataclass

from upturn.core.errors import Invalid

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===|==|!=|<=|>=|~=|<|>)\s*[A-Za-z0-9._*+!-]+"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?P<extras>\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*"
    rf"(?:(?P<versions>\(?\s*{_VERSION}(?:\s*,\s*{_VERSION})*\s*\)?)|@\s*(?P<url>\S+))?"
)
_PYTHON = re.compile(r"3\.(\d+)(?:\.\d+)?")
_OLDEST = 11  # Upturn itself needs Python 3.11


@dataclass(frozen=True, slots=True)
class Env:
    """Requirements, sorted and in one spelling, and a version of Python; made by `env`."""

    requirements: tuple[str, ...]
    python: str | None = None  # None: that of the flow

    def __str__(self) -> str:
        wanted = ", ".join(self.requirements) or "nothing but Upturn"
        return wanted if self.python is None else f"{wanted} (python {self.python})"


def env(*requirements: str, python: str | None = None) -> Env:
    """An environment for steps: `@up.step(env=up.env("scikit-learn==1.7", python="3.12"))`.

    Requirements are written as for pip. Raises Invalid for one that is not, that is named twice, or
    that can't be locked.

    >>> print(env("six == 1.17.0", "Tiny_DB[fast]>=4,<5"))
    six==1.17.0, tiny-db[fast]>=4,<5
    """
    found: dict[str, str] = {}
    for text in requirements:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(f"{text!r} is no requirement: up.env takes texts, one a package.")
        name, requirement, marked = _parsed(text)
        if name in found and not marked and found[name] != requirement:
            raise Invalid(
                f"The environment asks for {name!r} twice: {found[name]!r} and {requirement!r}.",
                hint="Name each package once: up.env('pandas>=2,<3').",
                requirement=requirement,
            )
        found[requirement if marked else name] = requirement
    return Env(tuple(sorted(found.values())), _checked_python(python))


def name_of(requirement: str) -> str:
    """The name of the package that a requirement asks for, in its one spelling.

    >>> name_of("Tiny_DB[fast]>=4")
    'tiny-db'
    """
    name = re.match(_NAME, requirement.strip())
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name is not None else ""


def here() -> str:
    """The minor version of this Python."""
    return ".".join(map(str, sys.version_info[:2]))


def _parsed(text: str) -> tuple[str, str, bool]:
    """The name, the requirement in one spelling, and whether it holds on some machines only."""
    wanted, semicolon, marker = text.partition(" ;" if "@" in text else ";")
    marker = marker.strip()
    match = _REQUIREMENT.fullmatch(wanted.strip())
    if match is None or bool(marker) != bool(semicolon):
        raise Invalid(
            f"{text!r} is no requirement.",
            hint="Write it as for pip, one a string: up.env('scikit-learn==1.7', 'pandas>=2').",
            requirement=text,
        )
    name = name_of(wanted)
    url = match["url"]
    if url is not None and not url.startswith(("https://", "http://", "file://")):
        raise Invalid(
            f"{text!r} can't be locked: what is at {url.partition(':')[0]}: addresses can change.",
            hint="Name a release, or the https:// or file:// address of a wheel or an archive.",
            requirement=text,
        )
    extras = ",".join(sorted(name_of(extra) for extra in re.findall(_NAME, match["extras"] or "")))
    versions = re.sub(r"[\s()]", "", match["versions"] or "")
    whole = name + (f"[{extras}]" if extras else "") + versions
    whole += f" @ {url}" if url else ""
    return name, f"{whole} ; {marker}" if marker else whole, bool(marker)


def _checked_python(python: object) -> str | None:
    if python is None:
        return None
    match = _PYTHON.fullmatch(python) if isinstance(python, str) else None
    if match is None:
        raise Invalid(
            f"{python!r} is no version of Python.", hint="Write it as text: python='3.12'."
        )
    if int(match[1]) < _OLDEST:
        raise Invalid(
            f"Upturn's workers don't run on Python {python}.",
            hint=f"Take 3.{_OLDEST} or newer.",
        )
    return match[0]
