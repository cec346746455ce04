"""Endpoints over the API: which there are, who answers for them, and the way back."""

from datetime import datetime

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.paging import LIMIT, Limit, cut, page_by, read_cursor
from upturn.api.visible import project_of_endpoint, seen_endpoint
from upturn.core.errors import NotFound
from upturn.core.records import Arm, Endpoint, Route


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and the route that holds."""

    name: str
    project: str
    model: str
    unit: str | None = None  # the field that keeps a caller on one arm
    durable: bool = False
    keep_log: str | None = None
    route: int | None = None  # the revision; none while nobody answers
    arms: tuple[Arm, ...] = ()
    why: str = ""
    since: datetime | None = None  # when the route was set


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of who answers for an endpoint."""

    endpoint: str
    revision: int
    model: str
    arms: tuple[Arm, ...]
    why: str
    at: datetime
    by_row: bool = False  # a row's own values say which arm it gets


class ListEndpoints(Request, frozen=True):
    """Which endpoints."""

    project: str = ""  # all that are to be seen, when it is left out
    cursor: str = ""
    limit: Limit = LIMIT


class GetEndpoint(Request, frozen=True):
    """Which endpoint."""

    endpoint: str


class ListRoutes(Request, frozen=True):
    """Of which endpoint, and how many."""

    endpoint: str
    cursor: str = ""
    limit: Limit = LIMIT


class GetRoute(Request, frozen=True):
    """Which revision of which endpoint."""

    endpoint: str
    revision: int


class Rollback(Request, frozen=True):
    """Which endpoint, and why."""

    endpoint: str
    why: str = ""


def list_endpoints(ask: Ask, request: ListEndpoints) -> Page[EndpointRow]:
    """Endpoints by name, each with the route that holds."""
    meta = ask.workspace.meta
    routes = {route.endpoint: route for route in meta.last_each(Route)}
    rows = [
        _row(endpoint, project, routes.get(endpoint.name))
        for endpoint in meta.last_each(Endpoint)
        if ask.asker.may_see(project := project_of_endpoint(ask, endpoint))
        and request.project in ("", project)
    ]
    return page_by(rows, key=lambda row: row.name, cursor=request.cursor, limit=request.limit)


def get_endpoint(ask: Ask, request: GetEndpoint) -> EndpointRow:
    """One endpoint, and the route that holds."""
    endpoint = seen_endpoint(ask, request.endpoint)
    route = ask.workspace.meta.find(Route, endpoint.name)
    return _row(endpoint, project_of_endpoint(ask, endpoint), route)


def list_routes(ask: Ask, request: ListRoutes) -> Page[RouteRow]:
    """Every revision of who answered, newest first."""
    endpoint = seen_endpoint(ask, request.endpoint)
    before = read_cursor(request.cursor, tuple[int])[0] if request.cursor else None
    routes = ask.workspace.meta.select(Route, newest_first=True, endpoint=endpoint.name)
    rows = [_route(route) for route in routes if before is None or route.revision < before]
    return cut(rows, request.limit, lambda row: (row.revision,))


def get_route(ask: Ask, request: GetRoute) -> RouteRow:
    """One revision."""
    endpoint = seen_endpoint(ask, request.endpoint)
    found = None
    if 0 < request.revision < 2**63:
        found = ask.workspace.meta.find(Route, endpoint.name, request.revision)
    if found is None:
        raise NotFound(f"Endpoint {endpoint.name!r} has no route {request.revision}.")
    return _route(found)


def rollback(ask: Ask, request: Rollback) -> RouteRow:
    """Let the version before answer again: a new revision, which is answered.

    Servers follow within a tenth of a second.
    """
    from upturn.deploy.route import rollback

    endpoint = seen_endpoint(ask, request.endpoint)
    return _route(rollback(ask.workspace, endpoint.name, why=request.why, now=ask.now))


def _row(endpoint: Endpoint, project: str, route: Route | None) -> EndpointRow:
    return EndpointRow(
        name=endpoint.name,
        project=project,
        model=endpoint.model_name,
        unit=endpoint.unit,
        durable=endpoint.durable,
        keep_log=endpoint.keep_log,
        route=route.revision if route is not None else None,
        arms=route.arms if route is not None else (),
        why=route.why if route is not None else "",
        since=route.at if route is not None else None,
    )


def _route(route: Route) -> RouteRow:
    return RouteRow(
        endpoint=route.endpoint,
        revision=route.revision,
        model=route.model,
        arms=route.arms,
        why=route.why,
        at=route.at,
        by_row=route.policy is not None,
    )


_AT = "/api/v1/endpoints"
LIST_ENDPOINTS = Operation(
    "endpoints.list", "GET", _AT, ListEndpoints, Page[EndpointRow], list_endpoints
)
GET_ENDPOINT = Operation(
    "endpoints.get", "GET", f"{_AT}/{{endpoint}}", GetEndpoint, EndpointRow, get_endpoint
)
LIST_ROUTES = Operation(
    "endpoints.routes", "GET", f"{_AT}/{{endpoint}}/routes", ListRoutes, Page[RouteRow], list_routes
)
GET_ROUTE = Operation(
    "endpoints.route",
    "GET",
    f"{_AT}/{{endpoint}}/routes/{{revision}}",
    GetRoute,
    RouteRow,
    get_route,
)
ROLLBACK = Operation(
    "endpoints.rollback",
    "POST",
    f"{_AT}/{{endpoint}}/rollback",
    Rollback,
    RouteRow,
    rollback,
    role="deployer",
)
OPERATIONS: tuple[AnyOperation, ...] = (
    LIST_ENDPOINTS,
    GET_ENDPOINT,
    LIST_ROUTES,
    GET_ROUTE,
    ROLLBACK,
)
