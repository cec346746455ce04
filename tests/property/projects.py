"""Small projects in what people write: a chain of layers, each defined and called in its own way.

In `kinds.txt` § is a whole number that an edit may change, NAME the function that the layer
defines and CALL the one below it.
"""

import re
from dataclasses import dataclass
from pathlib import Path


def _sections(name: str) -> dict[str, str]:
    """The parts of a text file by the line above each: '=== title'."""
    text = (Path(__file__).parent / name).read_text()
    found = (part.partition("\n") for part in text.split("=== ")[1:])
    return {title: body.rstrip() + "\n" for title, _, body in found}


KINDS = _sections("kinds.txt")
# How one module calls a function of another: text at its top, and what CALL becomes. M is the
# module, F the function.
WAYS = {
    title.partition(": ")[0]: (body.rstrip(), title.partition(": ")[2])
    for title, body in _sections("ways.txt").items()
}
# How the module below is laid out: files by name ('' is its text), and what it is imported as.
PLACES: dict[str, tuple[dict[str, str], str]] = {
    "module": ({"M.py": ""}, "M"),
    "re-export": ({"p_M/__init__.py": "from .M import F\n", "p_M/M.py": ""}, "p_M"),
    "re-export by name": (
        {"p_M/__init__.py": "from .M import F as g\nF = g\n__all__ = ['F']\n", "p_M/M.py": ""},
        "p_M",
    ),
    "re-export of all": ({"p_M/__init__.py": "from p_M.M import *\n", "p_M/M.py": ""}, "p_M"),
    "submodule": ({"p_M/__init__.py": "", "p_M/M.py": ""}, "p_M.M"),
    "namespace package": ({"n_M/M.py": ""}, "n_M.M"),
    "lazy package": (
        {
            "p_M/__init__.py": "def __getattr__(name):\n    import importlib\n"
            "    if name != 'F':\n        raise AttributeError(name)\n"
            "    return getattr(importlib.import_module('.M', __name__), name)\n",
            "p_M/M.py": "",
        },
        "p_M",
    ),
    "patched by another": (
        {
            "M.py": "def F(x):\n    return 0\nimport q_M\n",
            "q_M.py": "",
            "q_M.py+": "import M\nM.F = F\n",
        },
        "M",
    ),
    "registered by another": (
        {
            "M.py": "REG = {}\nimport q_M\ndef F(x):\n    return REG['F'](x)\n",
            "q_M.py": "",
            "q_M.py+": "import M\nM.REG['F'] = F\n",
        },
        "M",
    ),
}
IDLE = ["# changed", '"""Changed."""', "\n\n\n"]


@dataclass(frozen=True)
class Layer:
    """One function of the chain: how it is written, called from above, and where it lies."""

    kind: str
    way: str
    place: str


def project(layers: list[Layer], numbers: list[int]) -> dict[str, str]:
    """The files of a project; `numbers` stand for each § in turn, from the first at the end."""
    files: dict[str, str] = {}
    taken = 0

    def number(_: re.Match[str]) -> str:
        nonlocal taken
        taken += 1
        return str(numbers[(taken - 1) % len(numbers)])

    below = ("", "abs")
    for at in range(len(layers) - 1, -1, -1):
        layer = layers[at]
        name, module = f"f{at}", f"m{at}"
        body = KINDS[layer.kind].replace("NAME", name).replace("CALL", below[1])
        text = f"{below[0]}\n{re.sub('§', number, body)}"
        made, imported = PLACES[layer.place]
        for file, extra in made.items():
            path = file.removesuffix("+").replace("M", module)
            extra = re.sub(r"\bF\b", name, extra).replace("_M", f"_{module}")
            extra = re.sub(r"\bM\b", module, extra)
            files[path] = files.get(path, "") + (extra or text)
        target = imported.replace("M", module)
        head, call = (
            re.sub(r"\bM\b", target, re.sub(r"(?<![A-Z])F\b", name, part))
            for part in WAYS[layer.way]
        )
        below = (head, call)
    files["main.py"] = (
        f"{below[0]}\nimport upturn as up\n@up.step\ndef step(x):\n    return {below[1]}(x) + 1\n"
    )
    return files


def count(layers: list[Layer]) -> int:
    """How many numbers the project has."""
    return sum(KINDS[layer.kind].count("§") for layer in layers)
