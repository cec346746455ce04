"""Lineage over the API: what a thing was made from, and all that it touched."""

from typing import Literal

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Request
from upturn.api.visible import may_see
from upturn.core.errors import NotFound
from upturn.core.lineage import downstream, upstream
from upturn.core.records import Edge


class LineageNode(msgspec.Struct, frozen=True, kw_only=True):
    """A thing on the way, nearest first; `role` is that of the edge between it and `next_to`."""

    path: str
    depth: int
    role: str = ""
    next_to: str = ""  # the thing, nearer to where the walk began, that led to it


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the walk began, and what it came by."""

    path: str
    nodes: tuple[LineageNode, ...]


class GetLineage(Request, frozen=True):
    """Of what: 'version/delays:7', 'run/k3f9x2/train/0'; back to its sources, or forward."""

    path: str
    direction: Literal["upstream", "downstream"] = "upstream"


def get_lineage(ask: Ask, request: GetLineage) -> Lineage:
    """Everything that a thing was made from, or that it touched, each thing once."""
    meta, start, back = ask.workspace.meta, request.path, request.direction == "upstream"

    def edges(path: str) -> list[Edge]:
        if not may_see(ask, path):
            return []
        found = meta.select(Edge, target=path) if back else meta.select(Edge, source=path)
        return [each for each in found if may_see(ask, each.source if back else each.target)]

    nodes = upstream(start, edges) if back else downstream(start, edges)
    if len(nodes) == 1:
        raise NotFound(
            f"Nothing is linked to {start[:200]}.", hint="Is it spelled as it was printed?"
        )
    rows = [
        LineageNode(
            path=node.path,
            depth=node.depth,
            role=node.edge.role if node.edge else "",
            next_to=(node.edge.target if back else node.edge.source) if node.edge else "",
        )
        for node in nodes
    ]
    return Lineage(path=start, nodes=tuple(rows))


GET_LINEAGE = Operation("lineage.get", "GET", "/api/v1/lineage", GetLineage, Lineage, get_lineage)
OPERATIONS: tuple[AnyOperation, ...] = (GET_LINEAGE,)
