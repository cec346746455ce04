"""Plans: the policies of a rehearsal by name, made from what a person gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from upturn.core.errors import Invalid
from upturn.core.records import Version
from upturn.core.time import duration, spell
from upturn.improve.loop import Duration, Loop
from upturn.improve.rehearsing.shared import Plan
from upturn.improve.rehearsing.vary import Variants

BASELINES = ("never", "calendar", "oracle")
One = Loop | Version
Policies = One | Sequence[One] | Mapping[str, One]


def plans_of(
    policies: Policies,
    baselines: Sequence[str],
    calendar: Duration | Sequence[Duration],
    initial: int | None,
) -> list[Plan]:
    """The policies, then the baselines. Raises Invalid for what can't be rehearsed together."""
    settings = policies.settings if isinstance(policies, Variants) else {}
    plans = [_plan(name, one, settings.get(name, {})) for name, one in _named(policies, baselines)]
    if not plans:
        raise Invalid("There is no policy to rehearse.", hint="Give a loop, or several.")
    _check_one_world(plans)
    lead = next((plan.loop for plan in plans if plan.loop is not None), None)
    if lead is None:
        if initial is not None:
            raise Invalid(
                "Versions that only answer have no first champion.",
                hint="Leave initial out; each version is a policy of its own.",
            )
        return plans  # nobody trains, so there is nothing to keep or to repeat
    if "never" in baselines:
        plans.append(Plan(name="never", kind="never", loop=lead))
    if "calendar" in baselines:
        plans += _calendars(lead, calendar)
    return plans


def _named(policies: Policies, baselines: Sequence[str]) -> Iterator[tuple[str, One]]:
    if isinstance(policies, Loop):
        yield "loop", policies
        return
    if isinstance(policies, Version):
        yield policies.name, policies
        return
    if isinstance(policies, Mapping):
        found = list(policies.items())
    else:
        found = [(_name_of(one), one) for one in policies]
    taken = set(baselines)
    seen: dict[str, int] = {}
    for name, one in found:
        if not isinstance(one, Loop | Version):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{name!r} is a {type(one).__name__}, which can't be rehearsed.",
                hint="A policy is an up.Loop or a Version, as up.version('delays:3').",
            )
        if name in taken:
            raise Invalid(
                f"A policy is called {name!r}, as a baseline is.", hint="Give it another name."
            )
        if "/" in name or not name.strip():
            raise Invalid(f"{name!r} is no name of a policy.", hint="Give a word or two.")
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), one


def _name_of(one: One) -> str:
    return str(getattr(one, "name", one))


def _plan(name: str, one: One, settings: Mapping[str, str]) -> Plan:
    said = tuple(sorted(settings.items()))
    if isinstance(one, Version):
        return Plan(name=name, kind="version", version=one.number, model=one.model, settings=said)
    return Plan(name=name, kind="loop", loop=one, model=one.endpoint.model_name, settings=said)


def _check_one_world(plans: Sequence[Plan]) -> None:
    """All answer the same requests, with versions of one model."""
    first = plans[0]
    for plan in plans[1:]:
        if plan.model != first.model:
            raise Invalid(
                f"{first.name!r} is about the model {first.model!r}, {plan.name!r} about"
                f" {plan.model!r}.",
                hint="Policies are rehearsed together when they answer the same requests.",
            )
    loops = [plan for plan in plans if plan.loop is not None]
    for plan in loops[1:]:
        assert plan.loop is not None
        assert loops[0].loop is not None
        one, other = loops[0].loop.endpoint, plan.loop.endpoint
        if (one.name, one.unit) != (other.name, other.unit):
            raise Invalid(
                f"{loops[0].name!r} and {plan.name!r} are about different endpoints.",
                hint="Give them the same up.Endpoint, with the same unit.",
            )


def _calendars(lead: Loop, calendar: Duration | Sequence[Duration]) -> list[Plan]:
    given = [calendar] if isinstance(calendar, str | float | int | timedelta) else list(calendar)
    periods = list(dict.fromkeys(duration(one) for one in given))
    for one in periods:
        if one <= timedelta(0):
            raise Invalid("A calendar's period has a length.", hint="Write '30d'.")
    return [
        Plan(
            name="calendar" if len(periods) == 1 else f"every {spell(every)}",
            kind="calendar",
            loop=lead,
            model=lead.endpoint.model_name,
            every=every,
            settings=(("every", spell(every)),),
        )
        for every in periods
    ]
