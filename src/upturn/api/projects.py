"""Projects over the API: where runs, models and endpoints belong."""

from collections import Counter

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.paging import LIMIT, Limit, page_by
from upturn.api.visible import hidden, project_of_endpoint, project_of_model
from upturn.core.naming import Group, Model
from upturn.core.records import Endpoint, Version


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project, and how much there is in it."""

    name: str
    own: bool  # the one that this store is in, and whose name things without one have
    groups: int
    models: int
    endpoints: int


class ListProjects(Request, frozen=True):
    """Which of the projects."""

    cursor: str = ""
    limit: Limit = LIMIT


class GetProject(Request, frozen=True):
    """Which project."""

    project: str


def list_projects(ask: Ask, request: ListProjects) -> Page[ProjectRow]:
    """Projects by name."""
    rows = [row for row in _projects(ask) if ask.asker.may_see(row.name)]
    return page_by(rows, key=lambda row: row.name, cursor=request.cursor, limit=request.limit)


def get_project(ask: Ask, request: GetProject) -> ProjectRow:
    """One project."""
    for row in _projects(ask):
        if row.name == request.project and ask.asker.may_see(row.name):
            return row
    raise hidden("project", request.project)


def _projects(ask: Ask) -> list[ProjectRow]:
    meta, own = ask.workspace.meta, ask.workspace.settings.project
    groups = Counter(group.project for group in meta.last_each(Group))
    named = {model.name for model in meta.last_each(Model) if model.renamed_to is None}
    named |= {version.model for version in meta.last_each(Version)}
    models = Counter(project_of_model(ask, name) for name in named)
    endpoints = Counter(project_of_endpoint(ask, each) for each in meta.last_each(Endpoint))
    return [
        ProjectRow(
            name=name,
            own=name == own,
            groups=groups[name],
            models=models[name],
            endpoints=endpoints[name],
        )
        for name in {own, *groups, *models, *endpoints}
    ]


_AT = "/api/v1/projects"
LIST_PROJECTS = Operation(
    "projects.list", "GET", _AT, ListProjects, Page[ProjectRow], list_projects
)
GET_PROJECT = Operation(
    "projects.get", "GET", f"{_AT}/{{project}}", GetProject, ProjectRow, get_project
)
OPERATIONS: tuple[AnyOperation, ...] = (LIST_PROJECTS, GET_PROJECT)
