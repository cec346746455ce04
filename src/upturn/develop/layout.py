"""Layout: how a task's recorded inputs are nested in its arguments, and the arguments again."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from upturn.core.records import Input

# In a layout, a number is the input at that place; ["list", …], ["tuple", …] and
# ["dict", [[key, …], …]] are containers.
_PLAIN_KEYS = (str, int, float, bool, type(None))


def layout_of(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The layout of arguments whose inputs are `inputs_of(arguments)`.

    None when a dict among them has keys that no JSON value is.
    """
    numbers = count()

    def walk(value: Any) -> Any:
        number = next(numbers)  # of a container, that of its shape
        match value:
            case list() | tuple():
                return [type(value).__name__, [walk(item) for item in value]]
            case dict():
                return ["dict", [[_key(key), walk(item)] for key, item in value.items()]]
            case _:
                return number

    try:
        return {name: walk(value) for name, value in arguments.items()}
    except _NoLayout:
        return None


class _NoLayout(Exception):
    pass


def _key(key: object) -> Any:
    if type(key) not in _PLAIN_KEYS:
        raise _NoLayout
    return key


def arguments_of(
    layout: Mapping[str, Any], inputs: Sequence[Input], leaf: Callable[[Input], Any]
) -> dict[str, Any]:
    """The arguments by parameter, with `leaf` of each input in its place.

    >>> inputs = [Input(name=name, digest=name) for name in ("x", "y:shape", "y[0]", "y[1]")]
    >>> arguments_of({"x": 0, "y": ["tuple", [2, 3]]}, inputs, lambda item: item.digest)
    {'x': 'x', 'y': ('y[0]', 'y[1]')}
    """

    def build(node: Any) -> Any:
        if isinstance(node, int):
            return leaf(inputs[node])
        kind, items = node
        if kind == "dict":
            return {key: build(item) for key, item in items}
        built = [build(item) for item in items]
        return tuple(built) if kind == "tuple" else built

    return {name: build(node) for name, node in layout.items()}
