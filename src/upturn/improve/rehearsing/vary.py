"""Variants: the same loop with other thresholds, windows or gates, to rehearse at once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from itertools import product
from typing import Any

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration, spell
from upturn.improve.loop import Loop

_FIXED = frozenset({"endpoint", "train", "history", "name"})
_MOST = 64  # variants; each is a policy to run
_NESTED = ("when", "gate", "guard", "rollout")


class Variants(Mapping[str, Loop]):
    """Loops by name, each with the settings by which it differs from the first."""

    def __init__(self, loops: Mapping[str, Loop], settings: Mapping[str, dict[str, str]]) -> None:
        self._loops = dict(loops)
        self.settings = dict(settings)

    def __getitem__(self, name: str) -> Loop:
        return self._loops[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loops)

    def __len__(self) -> int:
        return len(self._loops)

    def __repr__(self) -> str:
        return f"Variants({', '.join(self._loops)})"


def vary(loop: Loop, changes: Mapping[str, Sequence[Any]] | None = None, **more: Any) -> Variants:
    """The loop as it is, and with every combination of the changes, to give to `up.rehearse`.

    A change is an argument of `up.Loop` with the values to try: `window=["90d", "365d"]`,
    `when=[up.drift(psi=0.1), up.stale("30d")]`. A number or a time inside a trigger, gate, guard or
    stage has a path: `{"when.psi": [0.1, 0.2]}` sets it in every part of `when` that has one,
    `"when.drift.psi"` in those called drift alone. The loop itself is the variant 'loop'.

    Raises Invalid for what the loop does not have, for more than 64 variants, and for what can't be
    a loop.

    >>> import upturn as up
    >>> @up.flow
    ... def delays(start: str, end: str): ...
    >>> loop = up.Loop(up.Endpoint("delays"), train=delays, when=up.drift(psi=0.2) | up.stale("9d"))
    >>> list(up.vary(loop, {"when.psi": [0.1, 0.3]}, window=["30d"]))
    ['loop', 'psi=0.1 window=30d', 'psi=0.3 window=30d']
    """
    asked = dict(changes or {}) | more
    for path, values in asked.items():
        listed: Any = values
        if isinstance(values, str) or not isinstance(values, Sequence) or not listed:
            raise Invalid(
                f"vary({path}={values!r}): give a list of the values to try.",
                hint=f"Write {path}=[…].",
            )
    count = 1
    for values in asked.values():
        count *= len(values)
    if count > _MOST:
        raise Invalid(
            f"That makes {count:,} variants, more than {_MOST}.",
            hint="Vary fewer things at a time: the others keep the loop's own value.",
        )
    loops: dict[str, Loop] = {"loop": loop}
    settings: dict[str, dict[str, str]] = {"loop": {}}
    for chosen in product(*asked.values()):
        changed = loop
        said: dict[str, str] = {}
        for path, value in zip(asked, chosen, strict=True):
            changed = _changed(changed, path, value)
            said[path] = _shown(value)
        if not said or _same(changed, loop):
            continue
        name = " ".join(f"{path.rpartition('.')[2]}={value}" for path, value in said.items())
        if name in loops:
            raise Invalid(f"Two variants are both called {name!r}.", hint="Give each value once.")
        loops[name], settings[name] = changed, said
    return Variants(loops, settings)


def parse_changes(texts: Sequence[str]) -> dict[str, list[str]]:
    """Changes as they are written on a command line: ['when.psi=0.1,0.2', 'window=90d'].

    >>> parse_changes(["when.psi=0.1,0.2", "window=90d"])
    {'when.psi': ['0.1', '0.2'], 'window': ['90d']}
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        each = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not path.strip() or not each:
            raise Invalid(
                f"--vary {text!r} does not say what to try.", hint="Write --vary when.psi=0.1,0.2"
            )
        found.setdefault(path.strip(), []).extend(each)
    return found


def _changed(loop: Loop, path: str, value: Any) -> Loop:
    head, _, rest = path.partition(".")
    known = [field.name for field in fields(loop) if field.name not in _FIXED]
    if head not in known:
        raise Invalid(f"A loop has no {head!r} to vary.", hint=did_you_mean(head, known))
    if not rest:
        return _with(loop, head, _read(value, loop, head, path))
    if head not in _NESTED:
        raise Invalid(f"A loop's {head} has no parts to vary.", hint=f"Write {head}={value}.")
    kind, _, field = rest.rpartition(".")
    whole = getattr(loop, head)
    changed, hits = _inside(whole, kind, field, value, path)
    if not hits:
        there = sorted(set(_paths(head, whole)))
        hint = did_you_mean(path, there)
        hint = hint if hint.startswith("Did") or not there else f"There are: {', '.join(there)}."
        raise Invalid(f"The loop has no {path!r} to vary.", hint=hint)
    return _with(loop, head, changed)


def _with(loop: Loop, name: str, value: Any) -> Loop:
    """The loop with another value, checked as any loop is."""
    given = {key: getattr(loop, key) for key in inspect.signature(Loop).parameters}
    return Loop(**(given | {name: value}))


def _inside(part: Any, kind: str, field: str, value: Any, path: str) -> tuple[Any, int]:
    """The part with the field set wherever it, or what it is made of, has one; how often."""
    if isinstance(part, tuple):
        items: Any = part
        each = [_inside(item, kind, field, value, path) for item in items]
        return tuple(one for one, _ in each), sum(hits for _, hits in each)
    if not isinstance(part, msgspec.Struct):
        return part, 0
    changes: dict[str, Any] = {}
    found = 0
    for name in part.__struct_fields__:
        own = getattr(part, name)
        if name == field and _scalar(own) and kind in ("", _kind(part)):
            changes[name] = _read(value, part, name, path)
            found += 1
            continue
        inner, hits = _inside(own, kind, field, value, path)
        if hits:
            changes[name] = inner
            found += hits
    return (msgspec.structs.replace(part, **changes) if changes else part), found


def _kind(part: Any) -> str:
    return type(part).__name__.lower()


def _scalar(value: Any) -> bool:
    return isinstance(value, int | float | timedelta) and not isinstance(value, bool)


def _paths(head: str, part: Any) -> Iterator[str]:
    if isinstance(part, tuple):
        items: Any = part
        for item in items:
            yield from _paths(head, item)
    elif isinstance(part, msgspec.Struct):
        for name in part.__struct_fields__:
            own = getattr(part, name)
            if _scalar(own):
                yield f"{head}.{_kind(part)}.{name}"
            yield from _paths(head, own)


def _read(value: Any, owner: Any, name: str, path: str) -> Any:
    """A value in the kind of what it replaces: '30d' for a time, '0.2' for a number."""
    own = getattr(owner, name)
    if isinstance(own, timedelta):
        return duration(value)
    if not _scalar(own):
        if isinstance(value, str):
            raise Invalid(
                f"{path}={value!r}: that can't be given as text.",
                hint="In Python: up.vary(loop, when=[up.drift(psi=0.1), …]).",
            )
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Invalid(f"{path}={value!r} is no number.", hint=f"It is {own!r} now.") from None
    whole = "int" in str(type(owner).__annotations__.get(name, ""))
    # Thresholds are positive, levels and shares are below 1 as well.
    low = -math.inf if own <= 0 or path == "gate.by" else 0.0
    high = 1.0 if name in ("alpha", "share") else math.inf
    if not low < number < high:
        raise Invalid(f"{path}={value!r} is out of bounds.", hint=f"It is {own!r} now.")
    if whole and number != int(number):
        raise Invalid(f"{path}={value!r} is not whole.", hint=f"It is {own!r} now.")
    return int(number) if whole else number


def _same(one: Loop, other: Loop) -> bool:
    names = [field.name for field in fields(one)]
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return spell(value)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, msgspec.Struct):
        return _call(value)
    return str(value)


def _call(part: Any) -> str:
    """A trigger or a gate as it is written: drift(psi=0.2)."""
    if _kind(part) in ("either", "both"):
        sign = " | " if _kind(part) == "either" else " & "
        return f"{_call(part.first)}{sign}{_call(part.second)}"
    shown = [
        f"{name}={_shown(getattr(part, name))}"
        for name in part.__struct_fields__
        if getattr(part, name) is not None
    ]
    return f"{_kind(part)}({', '.join(shown)})"
