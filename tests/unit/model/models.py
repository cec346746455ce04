"""What tests of models share: a small table, and fitted models of many kinds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

ROWS = 300
NUMBERS = ["delay", "hour", "night"]
# So that LightGBM splits by category though there are few rows.
CAREFREE: dict[str, Any] = {"verbose": -1, "min_data_per_group": 5, "cat_smooth": 1.0}


def flights(seed: int = 0) -> pd.DataFrame:
    """Rows with a number that may be missing, a whole one, a boolean, a text, and the target."""
    random = np.random.default_rng(seed)
    delay = random.normal(10, 20, ROWS).round(2)
    carrier = random.choice(["UA", "AA", "B6", "DL"], ROWS)
    late = (delay + 25 * (carrier == "B6") + random.normal(0, 10, ROWS)) > 15
    delay[::17] = np.nan
    return pd.DataFrame(
        {
            "delay": delay,
            "hour": random.integers(0, 24, ROWS),
            "night": random.random(ROWS) < 0.5,
            "carrier": carrier,
            "late": late,
        }
    )


def coded(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with carriers as a categorical whose codes are in no alphabetical order."""
    order = ["UA", "B6", "AA", "DL"]
    return frame.assign(carrier=pd.Categorical(frame["carrier"], categories=order))


def served(frame: Any, names: tuple[str, ...]) -> pa.Table:
    """The rows as they come of JSON: text, numbers, booleans and nulls."""
    rows = pd.DataFrame(frame)[list(names)].astype(object).where(lambda cell: cell.notna(), None)
    return pa.Table.from_pylist(rows.to_dict("records"))


def lightgbm_classifier() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=8, min_child_samples=5, n_jobs=1, **CAREFREE)


def xgboost_classifier() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=8, max_depth=3, enable_categorical=True, n_jobs=1)


def pipeline() -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            (SimpleImputer(), NUMBERS),
        ),
        LogisticRegression(max_iter=2000),
    )


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=5, random_state=0)


class OwnModel:
    """A user's own class, that encodes text itself and needs its own kind of table."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.rate = table["late"].mean()
        self.codes = {name: i for i, name in enumerate(sorted(table["carrier"].unique()))}

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        code = rows["carrier"].replace_strict(self.codes, default=-1, return_dtype=pl.Int64)
        return np.clip(self.rate + 0.1 * code.to_numpy() / 4, 0, 1)


Fitted = Callable[[], tuple[Any, Any, Callable[[], Any]]]


def lightgbm_on_pandas() -> tuple[Any, Any, Callable[[], Any]]:
    frame = flights()[[*NUMBERS, "late"]]
    model = lightgbm_classifier().fit(frame[NUMBERS], frame["late"])
    return model, frame, lambda: model.predict_proba(frame[NUMBERS])[:, 1]


def lightgbm_on_categories() -> tuple[Any, Any, Callable[[], Any]]:
    frame = coded(flights())
    inputs = frame.drop(columns="late")
    model = lightgbm_classifier().fit(inputs, frame["late"])
    return model, frame, lambda: model.predict_proba(inputs)[:, 1]


def lightgbm_on_categories_of_text() -> tuple[Any, Any, Callable[[], Any]]:
    """The data is registered as it was before the model's author made categories of it."""
    model, frame, expected = lightgbm_on_categories()
    return model, frame.astype({"carrier": str}), expected


def lightgbm_booster() -> tuple[Any, Any, Callable[[], Any]]:
    import lightgbm as lgb

    frame = coded(flights())
    inputs = frame.drop(columns="late")
    params = {"objective": "binary", "num_threads": 1, **CAREFREE}
    model = lgb.train(params, lgb.Dataset(inputs, frame["late"]), 8)
    return model, pl.from_pandas(frame), lambda: model.predict(inputs)


def xgboost_on_pandas() -> tuple[Any, Any, Callable[[], Any]]:
    frame = flights()[[*NUMBERS, "late"]]
    model = xgboost_classifier().fit(frame[NUMBERS], frame["late"])
    return model, frame, lambda: model.predict_proba(frame[NUMBERS])[:, 1]


def xgboost_on_categories() -> tuple[Any, Any, Callable[[], Any]]:
    frame = coded(flights())
    inputs = frame.drop(columns="late")
    model = xgboost_classifier().fit(inputs, frame["late"])
    return model, frame, lambda: model.predict_proba(inputs)[:, 1]


def xgboost_on_polars_categories() -> tuple[Any, Any, Callable[[], Any]]:
    frame = pl.from_pandas(flights()).with_columns(pl.col("carrier").cast(pl.Categorical))
    inputs = frame.drop("late")
    model = xgboost_classifier().fit(inputs, frame["late"])
    return model, frame, lambda: model.predict_proba(inputs)[:, 1]


def xgboost_booster() -> tuple[Any, Any, Callable[[], Any]]:
    import xgboost as xgb

    frame = flights()[[*NUMBERS, "late"]]
    rows = xgb.DMatrix(frame[NUMBERS], frame["late"])
    model = xgb.train({"objective": "binary:logistic", "nthread": 1}, rows, 8)
    return model, frame, lambda: model.predict(rows)


def sklearn_pipeline() -> tuple[Any, Any, Callable[[], Any]]:
    frame = flights()
    inputs = frame.drop(columns="late")
    model = pipeline().fit(inputs, frame["late"])
    return model, frame, lambda: model.predict_proba(inputs)[:, 1]


def sklearn_on_numpy() -> tuple[Any, Any, Callable[[], Any]]:
    frame = flights().fillna(0.0)[[*NUMBERS, "late"]]
    inputs = frame[NUMBERS].to_numpy(dtype=float)
    model = forest().fit(inputs, frame["late"])
    return model, pl.from_pandas(frame), lambda: model.predict_proba(inputs)[:, 1]


def own_class_on_polars() -> tuple[Any, Any, Callable[[], Any]]:
    frame = pl.from_pandas(flights())
    model = OwnModel(frame)
    return model, frame, lambda: model.predict(frame)


def function_on_pandas() -> tuple[Any, Any, Callable[[], Any]]:
    frame = flights()

    def model(rows: pd.DataFrame) -> pd.Series:
        return (rows["delay"].fillna(0) > 15) * 0.5 + 0.25

    return model, frame, lambda: model(frame)


BINARY: list[Fitted] = [
    lightgbm_on_pandas,
    lightgbm_on_categories,
    lightgbm_on_categories_of_text,
    lightgbm_booster,
    xgboost_on_pandas,
    xgboost_on_categories,
    xgboost_on_polars_categories,
    xgboost_booster,
    sklearn_pipeline,
    sklearn_on_numpy,
    own_class_on_polars,
    function_on_pandas,
]
