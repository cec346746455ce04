"""MLmodel: what MLflow writes beside a model, as far as serving it asks for it."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from upturn.core.schema import Field, FieldType, OutputKind, Signature

_LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.\-]+):(?: (?P<value>.*))?")
_REQUIRED = re.compile(r"\s*(?P<name>[\w.\-]+)(?:\[[^\]]*\])?==(?P<version>[\w.+!\-]+)")
_TYPES: dict[str, FieldType] = {
    "boolean": "bool",
    "integer": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "string": "str",
    "datetime": "datetime",
}


def read_mlmodel(text: str) -> dict[str, str]:
    """The plain values of an MLmodel by their place: 'signature.inputs', 'mlflow_version'.

    It is the part of YAML that MLflow writes: blocks by indentation, and values that may go on in
    the next lines when they are quoted.

    >>> read_mlmodel("signature:\\n  inputs: '[1,\\n    2]'\\n")
    {'signature.inputs': '[1, 2]'}
    """
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    quoted: tuple[str, str] | None = None  # a value that goes on
    for line in text.splitlines():
        if quoted is not None:
            name, value = quoted[0], f"{quoted[1]} {line.strip()}"
        else:
            part = _LINE.fullmatch(line.rstrip())
            if part is None:
                continue
            indent = len(part["indent"])
            above = [one for one in above if one[0] < indent]
            name = ".".join([*(key for _, key in above), part["key"]])
            value = (part["value"] or "").strip()
            if not value:
                above.append((indent, part["key"]))
                continue
        if value.startswith("'") and not _is_closed(value):
            quoted = (name, value)
            continue
        quoted = None
        found[name] = _plain(value)
    return found


def _is_closed(value: str) -> bool:
    return len(value) > 1 and value[1:].replace("''", "").endswith("'")


def _plain(value: str) -> str:
    if value.startswith("'") and value.endswith("'"):
        return value[1:-1].replace("''", "'")
    if value.startswith('"') and value.endswith('"'):
        try:
            return msgspec.json.decode(value, type=str)
        except msgspec.DecodeError:
            return value[1:-1]
    return value


def signature_of(said: Mapping[str, str]) -> Signature:
    """The signature of an MLmodel in our terms; one without inputs where it says none by columns.

    What a model answers is a number when that is all that it is said to, else any JSON.
    """
    inputs = [_field(column) for column in _columns(said.get("signature.inputs", ""))]
    outputs = _columns(said.get("signature.outputs", ""))
    output: OutputKind = "json"
    if len(outputs) == 1 and _TYPES.get(str(outputs[0].get("type"))) == "float":
        output = "number"
    fields = tuple(field for field in inputs if field is not None)
    if len(fields) != len(inputs):
        fields = ()
    return Signature(inputs=fields, output=output, frame="pandas")


def _columns(text: str) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(text or "[]", type=list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return []


def _field(column: Mapping[str, Any]) -> Field | None:
    kind, name = _TYPES.get(str(column.get("type"))), column.get("name")
    if kind is None or not isinstance(name, str):
        return None
    return Field(name=name, type=kind, nullable=column.get("required") is False)


def requirements_of(text: str) -> dict[str, str]:
    """The distributions that a requirements.txt pins, with their versions.

    >>> requirements_of("mlflow==3.17.2\\nscikit-learn[all]==1.7.0\\n# a==1\\n-r more.txt")
    {'mlflow': '3.17.2', 'scikit-learn': '1.7.0'}
    """
    found = (_REQUIRED.match(line) for line in text.splitlines())
    return {one["name"]: one["version"] for one in found if one is not None}
