"""Will a flight arrive 15 or more minutes late? Asked at its scheduled departure, from New York.

The whole loop in one file: a flow that trains, the endpoint that serves, and the policy that keeps
the model good. Try `upturn run flights.py:delays --start 2013-01-01 --end 2013-03-31` here.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from data import FEATURES, SOURCE, installed
from data import features as describe
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import upturn as up

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [name for name in FEATURES if name not in CATEGORIES]
KEYS = ["flight_id", "at", "landed_at", "tail_number"]
CHECKED = timedelta(days=7)  # the last days of the training data, on which variants are compared


@up.step
def flights(files: list[Path]) -> pl.DataFrame:
    """Every flight of the year with what was known at its scheduled departure."""
    return describe(files[0].parent)


@up.step
def labelled(table: pl.DataFrame, start: date, end: date) -> pl.DataFrame:
    """The flights of these days (the last included) that had landed by the end of the last one."""
    known = midnight(end) + timedelta(days=1)
    return table.filter(
        pl.col("at") >= midnight(start), pl.col("at") < known, pl.col("landed_at") < known
    )


@up.step(cpus=2, retries=1, timeout="10m")
def train(leaves: int, *, data: pl.DataFrame) -> Pipeline:
    """Fit on all but the last week, measure on that week, then fit on everything."""
    cut = data["at"].max() - CHECKED
    past, week = data.filter(pl.col("at") < cut), data.filter(pl.col("at") >= cut)
    model = fitted(leaves, past)
    late = model.predict_proba(week.select(FEATURES))[:, 1]
    up.log(auc=roc_auc_score(week["late"], late), log_loss=log_loss(week["late"], late))
    model = fitted(leaves, data)
    gain = model[-1].booster_.feature_importance("gain")
    names = [*CATEGORIES, *NUMBERS]
    up.show(pl.DataFrame({"feature": names, "gain": gain}).sort("gain", descending=True), "gain")
    return model


def fitted(leaves: int, data: pl.DataFrame) -> Pipeline:
    """LightGBM, held back on the categories: with a hundred destinations it would overfit."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(
        ColumnTransformer([("codes", encode, CATEGORIES), ("numbers", "passthrough", NUMBERS)]),
        LGBMClassifier(
            num_leaves=leaves,
            learning_rate=0.1,
            n_estimators=100,
            max_bin=63,
            min_child_samples=200,
            cat_smooth=100,
            cat_l2=50,
            min_data_per_group=200,
            colsample_bytree=0.5,
            reg_lambda=10,
            n_jobs=2,
            random_state=1,
            verbosity=-1,
        ),
    )
    return model.fit(
        data.select(FEATURES),
        data["late"].to_numpy(),
        lgbmclassifier__categorical_feature=list(range(len(CATEGORIES))),
    )


@up.flow(schedule="@monthly")
def delays(start: date, end: date, leaves: int = 15):
    """Train on the flights from `start` to `end`, both included, and register the model."""
    table = flights([installed() / name for name in SOURCE])
    data = labelled(table, start, end)
    return up.register(
        "delays",
        train(leaves, data=data),
        data=data,
        target="late",
        exclude=KEYS,
        nullable=NUMBERS,  # a gap in the weather may come, though there was none until now
    )


def history(start: date, end: date) -> pl.DataFrame:
    """Past flights with what later turned out to be true, for `upturn rehearse`."""
    table = describe().filter(
        pl.col("at") >= midnight(start), pl.col("at") < midnight(end) + timedelta(days=1)
    )
    return table.rename({"late": "label", "landed_at": "known_at"}).drop("flight_id")


def midnight(day: date) -> datetime:
    """The beginning of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


endpoint = up.Endpoint("delays", unit="tail_number", durable=True)

loop = up.Loop(
    endpoint,
    train=delays,
    window="365d",  # all there is: on this year, forgetting after 90 days costs more than it gives
    when=up.stale("35d") | up.drift(psi=0.5) | up.drop("auc", 0.05),
    gate=up.beats("log_loss", by=0.0, alpha=0.05),
    holdout="14d",
    cooldown="21d",
    rollout=[up.shadow("2d"), up.canary(0.2, "3d"), up.full()],
    guard=[up.no_worse("log_loss", 0.02)],
    history=history,
)
