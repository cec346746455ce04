"""Any table with a time, a label and when the label was known; and what is wrong with one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pv
import pytest

import upturn as up
from upturn.core.errors import Invalid
from upturn.core.records import Endpoint
from upturn.core.time import from_micros, instant, micros
from upturn.improve.past.history import as_history
from upturn.improve.past.rows import NEVER, Past, past_of

START, END = instant("2024-03-01"), instant("2024-03-11")
ROWS = 200


def plain(seed: int = 0) -> pl.DataFrame:
    """Orders with a time of the wall clock, when they arrived, and whether they were late."""
    random = np.random.default_rng(seed)
    minutes = np.sort(random.integers(0, 10 * 24 * 60, ROWS))
    ordered = [datetime(2024, 3, 1) + timedelta(minutes=int(one)) for one in minutes]  # noqa: DTZ001
    return pl.DataFrame(
        {
            "ordered": ordered,
            "arrived": [
                None if one % 7 == 0 else at + timedelta(hours=int(one % 50 + 1))
                for one, at in zip(minutes, ordered, strict=True)
            ],
            "late": random.random(ROWS) < 0.3,
            "weight": random.normal(size=ROWS),
            "customer": [f"c{one}" for one in random.integers(0, 9, ROWS)],
            "note": ["seen later"] * ROWS,
        }
    )


NAMES: dict[str, Any] = {"at": "ordered", "label": "late", "known_at": "arrived", "zone": "UTC"}


def read(table: Any, **names: Any) -> Past:
    said = up.history(table, **(NAMES | {"drop": ["note"]} | names))
    return past_of(said, Endpoint("orders", unit="customer"), START, END)


def test_every_kind_of_table_gives_the_same_past(tmp_path: Path) -> None:
    table = plain()
    table.write_parquet(tmp_path / "orders.parquet")
    table.write_ndjson(tmp_path / "orders.jsonl")
    pv.write_csv(table.to_arrow(), tmp_path / "orders.csv")
    orders = table.to_arrow()
    relation = duckdb.from_arrow(orders)
    wanted = read(table)
    assert wanted.rows == ROWS
    assert wanted.inputs.column_names == ["ordered", "weight", "customer"]
    kinds = [
        table.to_arrow(),
        table.to_pandas(),
        relation,
        tmp_path / "orders.parquet",
        str(tmp_path / "orders.parquet"),
        tmp_path / "orders.csv",
        tmp_path / "orders.jsonl",
    ]
    for kind in kinds:
        found = read(kind)
        assert (found.at == wanted.at).all()
        assert (found.known_at == wanted.known_at).all()
        assert found.labels.to_pylist() == wanted.labels.to_pylist()
        assert found.units == wanted.units


def test_a_table_in_our_own_words_needs_no_names() -> None:
    table = plain().rename({"ordered": "at", "late": "label", "arrived": "known_at"})
    table = table.with_columns(pl.col("at", "known_at").dt.replace_time_zone("UTC"))
    assert read(plain()).rows == past_of(table, Endpoint("orders"), START, END).rows


def test_times_are_those_of_the_zone_and_a_doubled_hour_is_no_look_ahead() -> None:
    table = pa.table(
        {
            "at": pa.array([datetime(2024, 11, 3, 1, 30), datetime(2024, 7, 1, 12)]),  # noqa: DTZ001
            "known_at": pa.array([datetime(2024, 11, 3, 1, 40), datetime(2024, 3, 10, 2, 30)]),  # noqa: DTZ001
            "label": [1.0, 0.0],
        }
    )
    zone = "America/New_York"
    first = table.slice(0, 1)
    found = as_history(up.history(first, zone=zone))
    at, known = found["at"][0].as_py(), found["known_at"][0].as_py()
    # 1:30 happened twice that night: first in summer time, at 5:30 UTC, then at 6:30 UTC.
    assert at == datetime(2024, 11, 3, 5, 30, tzinfo=UTC)
    assert known == datetime(2024, 11, 3, 6, 40, tzinfo=UTC)
    noon = as_history(up.history(table.slice(1, 1), zone=zone, known_after="1h", at="at"))
    assert noon["at"][0].as_py() == datetime(2024, 7, 1, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_how_long_a_label_took_where_no_column_says_it() -> None:
    found = read(plain(), known_at=None, known_after="36h")
    assert (found.known_at - found.at == 36 * 3_600_000_000).all()


def test_a_label_that_nobody_ever_learns_and_one_before_its_row() -> None:
    table = plain().with_columns(
        pl.when(pl.int_range(pl.len()) == 3)
        .then(pl.col("ordered") - pl.duration(days=2))
        .otherwise(pl.col("arrived"))
        .alias("arrived")
    )
    found = read(table)
    missing = table["arrived"].is_null().to_numpy()
    assert (found.known_at[missing] == NEVER).all()
    assert (found.known_at >= found.at).all()  # nobody knows what has not happened


def test_rows_are_in_order_and_within_the_days() -> None:
    table = plain().sample(fraction=1.0, shuffle=True, seed=1)
    found = past_of(up.history(table, **NAMES), Endpoint("orders"), START, instant("2024-03-04"))
    assert (np.diff(found.at) >= 0).all()
    assert from_micros(int(found.at[-1])) < instant("2024-03-04")
    assert found.at[0] >= micros(START)


@pytest.mark.parametrize(
    ("change", "names", "says", "hint"),
    [
        ({}, {"at": "orderd"}, "no column 'orderd'", "Did you mean 'ordered'?"),
        ({}, {"label": "lat"}, "no column 'lat'", "Did you mean 'late'?"),
        ({}, {"known_at": "arived"}, "no column 'arived'", "Did you mean 'arrived'?"),
        ({}, {"known_at": None}, "no column 'known_at'", "known_after='3d'"),
        ({}, {"drop": ["nots"]}, "no column 'nots'", "Did you mean 'note'?"),
        ({}, {"zone": None}, "not a time with a zone", "zone='UTC'"),
        ({}, {"zone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone", "'America/New_York'"),
        ({}, {"at": "weight"}, "'weight' is double, not a time", "pl.from_epoch"),
        ({}, {"at": "customer"}, "not a time with a zone", ".str.to_datetime"),
        ({}, {"label": "arrived"}, "as both label and known_at", "three different things"),
        ({}, {"label": "ordered"}, "as both at and label", "three different things"),
        ({"late": "list"}, {}, "which is no label", "true or false, a number or a text"),
        ({"ordered": "day"}, {}, "'ordered' is date32", "A day is no instant"),
        ({"ordered": "zoned"}, {}, "has the zone UTC already", "Leave zone='UTC' out"),
        ({"ordered": "gap"}, {}, "rows without a time in 'ordered': 3 of 200", "Leave them out"),
        ({}, {"at": "arrived", "known_at": "ordered", "known_after": None}, "without a time", "Le"),
        ({"arrived": "early"}, {}, "were known ('arrived') before their row", "swapped"),
    ],
)
def test_what_is_wrong_is_named_with_a_way_out(
    change: dict[str, str], names: dict[str, Any], says: str, hint: str
) -> None:
    changes = {
        "list": pl.concat_list("late"),
        "day": pl.col("ordered").dt.date(),
        "zoned": pl.col("ordered").dt.replace_time_zone("UTC"),
        "gap": pl.when(pl.int_range(pl.len()) > 2).then(pl.col("ordered")),
        "early": pl.col("ordered") - pl.duration(hours=5),
    }
    table = plain().with_columns(**{name: changes[kind] for name, kind in change.items()})
    with pytest.raises(Invalid) as raised:
        read(table, **names)
    assert says in raised.value.message
    assert hint in raised.value.hint


def test_what_cannot_be_read_and_what_is_empty(tmp_path: Path) -> None:
    (tmp_path / "orders.parquet").write_bytes(b"nonsense")
    (tmp_path / "orders.xlsx").write_bytes(b"")
    with pytest.raises(Invalid, match=r"no file .*order\.parquet") as raised:
        read(tmp_path / "order.parquet")
    assert "orders.parquet" in raised.value.hint
    with pytest.raises(Invalid, match=r"'orders\.parquet' can't be read"):
        read(tmp_path / "orders.parquet")
    with pytest.raises(Invalid, match="no table that can be read"):
        read(tmp_path / "orders.xlsx")
    with pytest.raises(Invalid, match="not a table"):
        read(7)
    with pytest.raises(Invalid, match="no rows from 2030-01-01") as raised:
        past_of(
            up.history(plain(), **NAMES),
            Endpoint("o"),
            instant("2030-01-01"),
            instant("2030-02-01"),
        )
    assert raised.value.hint.startswith("It has rows from 2024-03-01 to 2024-03-1")
    with pytest.raises(Invalid, match="no rows") as raised:
        past_of(up.history(plain().head(0), **NAMES), Endpoint("o"), START, END)
    assert "no rows at all" in raised.value.hint
    with pytest.raises(Invalid, match="both say when"):
        up.history(plain(), known_at="arrived", known_after="1d")
    with pytest.raises(Invalid, match="no label is known before"):
        up.history(plain(), known_after=-3.0)


def test_labels_of_each_kind() -> None:
    kinds: dict[str, tuple[list[Any], pa.DataType]] = {
        "bool": ([True, None], pa.float64()),
        "int": ([1, None], pa.float64()),
        "text": (["late", None], pa.string()),
    }
    at = pa.array([START, START + timedelta(hours=1)], pa.timestamp("us", "UTC"))
    for values, kind in kinds.values():
        table = pa.table({"at": at, "known_at": at, "label": pa.array(values)})
        found = as_history(table)["label"]
        assert found.type == kind
        assert found.null_count == 1
    coded = pa.array(["a", None]).dictionary_encode()
    assert (
        as_history(pa.table({"at": at, "known_at": at, "label": coded}))["label"].type
        == pa.string()
    )
