"""Routes: who answers for an endpoint, each change a new immutable revision."""

from collections.abc import Sequence
from datetime import datetime

from upturn.core.errors import Conflict, Invalid
from upturn.core.ids import route_path, version_path
from upturn.core.linear_policy import LinearPolicy
from upturn.core.records import Alias, Arm, Edge, Record, Route, Version
from upturn.core.routing import check_arms, reshare, slices_of
from upturn.core.who import who
from upturn.deploy.endpoint import get_endpoint
from upturn.model.aliases import check_approved
from upturn.stores.workspace import Workspace

CHAMPION = "champion"  # the alias of the version that the first answering arm of a route serves


def current_route(workspace: Workspace, endpoint: str) -> Route | None:
    """The revision that holds, or None while nobody answers for the endpoint."""
    return workspace.meta.find(Route, endpoint)


def set_route(
    workspace: Workspace,
    endpoint: str,
    arms: Sequence[Arm],
    *,
    why: str,
    now: datetime,
    after: int | None = None,
    salt: str | None = None,
    policy: LinearPolicy | None = None,
) -> Route:
    """Write the next revision and return it; servers of this store follow within 0.1 s.

    Units stay on their arms, but for the fewest that the new shares have to move. Another `salt`
    draws all of them anew, as an experiment of its own wants that nothing of an earlier one is left
    in its arms; endpoints have different ones, so what they draw is independent.

    The alias `champion` of the model follows the first answering arm, in the same transaction.
    With a `policy` a row's own values say which arm it gets; the arms' shares are then what that
    came to. `after` is the revision that the caller has decided on (0: none yet). Raises Conflict
    when another one has come meanwhile, Invalid for arms that can't be a route, NotFound for an
    unknown endpoint or version, Unapproved when a rule of the model asks for an approval of what
    would answer.
    """
    check_arms(arms)
    if policy is not None:
        policy.check([arm.name for arm in arms if not arm.shadow])
    model = get_endpoint(workspace, endpoint).model_name
    for arm in arms:
        workspace.meta.get(Version, model, arm.version)
    answering = [arm.version for arm in arms if not arm.shadow]
    check_approved(workspace, model, CHAMPION, answering)
    current = current_route(workspace, endpoint)
    revision = current.revision if current else 0
    if after is not None and after != revision:
        raise Conflict(
            f"The route of {endpoint!r} is at revision {revision}, not {after} any more.",
            hint="Somebody changed it meanwhile: look at it, and decide again.",
            endpoint=endpoint,
        )
    kept = current if salt is None or (current and current.salt == salt) else None
    route = Route(
        endpoint=endpoint,
        revision=revision + 1,  # said, not asked for: of two writers one gets a Conflict
        model=model,
        arms=tuple(arms),
        salt=kept.salt if kept else salt or endpoint,
        slices=reshare(slices_of(kept) if kept else (), arms),
        policy=policy,
        why=why,
        at=now,
    )
    records: list[Record] = [route, *_edges(route)]
    champion = next(arm.version for arm in arms if not arm.shadow)
    alias = workspace.meta.find(Alias, model, CHAMPION)
    if alias is None or alias.number != champion:
        records.append(
            Alias(model=model, name=CHAMPION, number=champion, why=why, at=now, who=who())
        )
    workspace.meta.put(*records)
    return route


def rollback(workspace: Workspace, endpoint: str, *, why: str = "", now: datetime) -> Route:
    """Route to the champion before: a new revision, which is returned.

    During a rollout that is the champion that still answers, alone again; else the last version
    before it that answered alone. Raises NotFound for an unknown endpoint, and Invalid when there
    is nothing to go back to.
    """
    get_endpoint(workspace, endpoint)
    current = current_route(workspace, endpoint)
    if current is None:
        raise Invalid(
            f"Endpoint {endpoint!r} has no route to roll back.", hint=f"upturn deploy {endpoint}"
        )
    revisions = workspace.meta.select(Route, endpoint=endpoint, newest_first=True)
    before = next((route for route in revisions if _is_before(route, current)), None)
    if before is None:
        raise Invalid(
            f"No other version has answered {endpoint!r} alone.",
            hint="There is nothing to roll back to.",
        )
    why = why or f"rolled back to the arms of revision {before.revision}"
    return set_route(workspace, endpoint, before.arms, why=why, now=now, after=current.revision)


def _is_before(route: Route, current: Route) -> bool:
    alone = len(route.arms) == 1
    same_champion = route.arms[0].version == current.arms[0].version
    return alone and (not same_champion or len(current.arms) > 1)


def describe_arms(arms: Sequence[Arm]) -> str:
    """The arms in one line, as people read them.

    >>> describe_arms(
    ...     [
    ...         Arm(name="champion", version=3, share=0.95),
    ...         Arm(name="candidate", version=4, share=0.05),
    ...     ]
    ... )
    'champion :3 95 %, candidate :4 5 %'
    """
    return ", ".join(
        f"{arm.name} :{arm.version} " + ("shadow" if arm.shadow else f"{arm.share * 100:g} %")
        for arm in arms
    )


def _edges(route: Route) -> list[Edge]:
    target = route_path(route.endpoint, route.revision)
    sources = dict.fromkeys(version_path(route.model, arm.version) for arm in route.arms)
    return [Edge(source=source, target=target, role="arm") for source in sources]
