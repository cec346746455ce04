"""Classes: which library's an object is of, and shares of classes that a model names itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Shares:
    """Probabilities, with the classes that their columns are of."""

    classes: tuple[str | int | bool, ...]
    values: np.ndarray

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values, dtype)


def of_class(value: Any, module: str, name: str) -> bool:
    """Whether the value is of that class or one that inherits from it.

    >>> of_class(True, "builtins", "int"), of_class(1.0, "builtins", "int")
    (True, False)
    """
    return any(one.__module__ == module and one.__qualname__ == name for one in type(value).__mro__)
