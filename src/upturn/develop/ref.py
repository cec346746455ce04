"""Ref: a handle to a value that a task will make."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from upturn.develop.node import Node

R = TypeVar("R")


class Ref(Generic[R]):
    """What a step call in a flow returns at once. Pass it on to other steps, alone or nested in
    lists, tuples and dicts; `get()` waits for the value and returns it.
    """

    __slots__ = ("_node", "_read")

    def __init__(self, node: "Node", read: "Callable[[Node], Any]") -> None:
        self._node = node
        self._read = read

    @property
    def node(self) -> "Node":
        """The task behind it."""
        return self._node

    @property
    def path(self) -> str:
        """The path of the task that makes the value."""
        return self._node.path

    def get(self) -> R:
        """The value, waited for. Raises StepFailed when its task, or one that it needs, failed."""
        return cast(R, self._read(self._node))

    def __repr__(self) -> str:
        return f"<Ref {self.path}>"

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self.path} is a Ref, a value that is still to be made; a flow can't {what} it. "
            "Pass it to a step, or call .get() to wait for the value."
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterate over")

    def __bool__(self) -> NoReturn:  # noqa: PLE0304  # it raises
        self._refuse("test")

    def __len__(self) -> NoReturn:  # noqa: PLE0303  # it raises
        self._refuse("measure")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("search")

    def __getitem__(self, key: object) -> Any:
        self._refuse("index")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"read .{name} of")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            self._refuse("compare")
        return self is other

    __hash__ = object.__hash__

    def _compare(self, _other: object) -> Any:
        self._refuse("compare")

    def _reckon(self, *_others: object) -> Any:
        self._refuse("reckon with")

    __lt__ = __le__ = __gt__ = __ge__ = _compare
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _reckon
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _reckon
    __neg__ = __abs__ = __int__ = __float__ = __round__ = __invert__ = _reckon

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.path} is a Ref inside a value that steps don't look into; pass it alone or in "
            "lists, tuples and dicts, or call .get() to wait for the value"
        )


def map_refs(value: Any, replace: Callable[[Any], Any]) -> Any:
    """`value` with every leaf of its lists, tuples and dicts replaced."""
    if type(value) is list or type(value) is tuple:
        return type(value)(map_refs(item, replace) for item in value)
    if type(value) is dict:
        return {key: map_refs(item, replace) for key, item in value.items()}
    return replace(value)


def refs_in(value: Any) -> list["Ref[Any]"]:
    """The Refs in a value, nested ones included, in order."""
    found: list[Ref[Any]] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            found.append(cast("Ref[Any]", leaf))
        return leaf

    map_refs(value, note)
    return found
