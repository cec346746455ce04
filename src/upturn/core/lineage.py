"""Lineage as pure functions over edges: what a thing was made from, and all that it touched."""

from collections.abc import Callable, Iterable

import msgspec

from upturn.core.records import Edge

Neighbours = Callable[[str], Iterable[Edge]]


class Node(msgspec.Struct, frozen=True):
    """A thing on the way, its distance from where the walk began, and the edge that led to it."""

    path: str
    depth: int
    edge: Edge | None = None


def upstream(start: str, edges_to: Neighbours) -> list[Node]:
    """Everything that `start` was made from, nearest first, each thing once, `start` included.

    `edges_to(path)` gives the edges whose target is that path.
    """
    return _walk(start, edges_to, lambda edge: edge.source)


def downstream(start: str, edges_from: Neighbours) -> list[Node]:
    """Everything that `start` touched, nearest first, each thing once, `start` included.

    `edges_from(path)` gives the edges whose source is that path.

    >>> edges = [
    ...     Edge(source="a", target="b", role="input"),
    ...     Edge(source="b", target="c", role="output"),
    ... ]
    >>> [node.path for node in downstream("a", lambda path: [e for e in edges if e.source == path])]
    ['a', 'b', 'c']
    """
    return _walk(start, edges_from, lambda edge: edge.target)


def _walk(start: str, edges: Neighbours, far_end: Callable[[Edge], str]) -> list[Node]:
    seen = {start}
    nodes = [Node(start, 0)]
    for node in nodes:  # grows while it is read: breadth first
        for edge in edges(node.path):
            path = far_end(edge)
            if path not in seen:
                seen.add(path)
                nodes.append(Node(path, node.depth + 1, edge))
    return nodes
