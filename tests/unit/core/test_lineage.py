"""Lineage: walks end on any graph, and meet everything once, the nearest first."""

from hypothesis import given
from hypothesis import strategies as st

from upturn.core.lineage import downstream, upstream
from upturn.core.records import Edge

names = st.sampled_from("abcdefgh")
graphs = st.lists(st.tuples(names, names), max_size=30)


def edges_of(pairs: list[tuple[str, str]]) -> list[Edge]:
    return [Edge(source=source, target=target, role="input") for source, target in pairs]


def down(start: str, edges: list[Edge]) -> list[tuple[str, int]]:
    nodes = downstream(start, lambda path: [e for e in edges if e.source == path])
    return [(node.path, node.depth) for node in nodes]


def up(start: str, edges: list[Edge]) -> list[tuple[str, int]]:
    nodes = upstream(start, lambda path: [e for e in edges if e.target == path])
    return [(node.path, node.depth) for node in nodes]


def reachable(start: str, edges: list[Edge]) -> dict[str, int]:
    """Distances by repeated relaxation: slow, plainly right, and another way."""
    distance = {start: 0}
    for _ in range(len(edges) + 1):
        for edge in edges:
            if edge.source in distance:
                far = distance[edge.source] + 1
                distance[edge.target] = min(far, distance.get(edge.target, far))
    return distance


@given(names, graphs)
def test_a_walk_ends_on_cycles_and_meets_each_node_once_at_its_distance(
    start: str, pairs: list[tuple[str, str]]
) -> None:
    edges = edges_of(pairs)
    walked = down(start, edges)
    assert dict(walked) == reachable(start, edges)
    assert len(walked) == len(dict(walked))
    assert [depth for _, depth in walked] == sorted(depth for _, depth in walked)


@given(names, graphs)
def test_upstream_is_downstream_of_the_edges_turned_round(
    start: str, pairs: list[tuple[str, str]]
) -> None:
    turned = edges_of([(target, source) for source, target in pairs])
    assert up(start, edges_of(pairs)) == down(start, turned)


def test_the_edge_that_led_there_is_told() -> None:
    (edge,) = edges_of([("a", "b")])
    first, second = upstream("b", lambda path: [edge] if path == "b" else [])
    assert (first.path, first.edge, first.depth) == ("b", None, 0)
    assert (second.path, second.edge, second.depth) == ("a", edge, 1)


def test_a_long_chain_needs_no_stack() -> None:
    assert (
        len(downstream("0", lambda path: edges_of([(path, str((int(path) + 1) % 5000))]))) == 5000
    )
