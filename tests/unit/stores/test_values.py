"""Values: the container, and the names by which values are known."""

import numpy as np
import pytest

from upturn.core.errors import Invalid
from upturn.stores.values import header_of, pack, type_name, unpack


def test_types_are_named_as_their_users_know_them() -> None:
    from sklearn.linear_model import LogisticRegression

    assert type_name(None) == "NoneType"
    assert type_name(np.zeros(1)) == "numpy.ndarray"
    assert type_name(LogisticRegression()) == "sklearn.linear_model.LogisticRegression"


def test_buffers_begin_at_multiples_of_64_bytes() -> None:
    header, parts = pack({"a": np.arange(20_000), "b": np.arange(30_000.0)})
    blob = b"".join(parts)
    assert len(header.buffers) == 3
    assert all(at % 64 == 0 for at, _ in header.buffers)
    back = unpack(memoryview(blob))
    assert back["b"].sum() == np.arange(30_000.0).sum()


def test_the_header_says_what_it_is_without_decoding() -> None:
    _, parts = pack([1, 2])
    header = header_of(memoryview(b"".join(parts)))
    assert (header.codec, header.type, header.summary) == ("json", "list", "2 items")


def test_a_codec_of_a_newer_upturn_is_named() -> None:
    blob = b"".join(pack(1)[1]).replace(b'"json"', b'"toml"')
    with pytest.raises(Invalid, match="toml"):
        unpack(memoryview(blob))


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        ("a" * 100, "'" + "a" * 58 + "…"),
        (10**5000, "a large integer"),
        (b"abc", "3 bytes"),
        ({1}, "1 item"),
        (np.zeros((2, 3)), "float64 (2, 3)"),
    ],
    ids=["text", "integer", "bytes", "set", "array"],
)
def test_summaries_are_one_short_line(value: object, summary: str) -> None:
    assert pack(value)[0].summary == summary
