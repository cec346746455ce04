"""Kinds of labels: rows of the Log as arrays, told apart by what their delay may depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import Signature
from upturn.core.time import micros
from upturn.improve.metrics import Floats
from upturn.improve.monitor.delays import DelayCurve, arrivals
from upturn.improve.monitor.performance import instants, outcomes, scores, weights_of

FEW = 50  # labels in a group, below which its labels are taken to arrive as those of all groups
_BINS = 5  # of labels that are numbers


class LabelRows(msgspec.Struct, frozen=True):
    """Rows as arrays: label and delay are nan where there is none, or it came after the horizon."""

    label: Floats
    score: Floats
    weight: Floats
    delay_s: Floats
    age_s: Floats
    at: NDArray[np.int64]
    group: NDArray[np.str_]

    @property
    def rows(self) -> int:
        return len(self.label)

    @staticmethod
    def of(
        joined: pa.Table,
        known_by: datetime,
        signature: Signature | None,
        by: Sequence[str],
        horizon_s: float,
    ) -> LabelRows:
        score = scores(joined)
        usable = np.isfinite(score)
        label, at = outcomes(joined, signature), instants(joined)
        known = np.asarray(joined["known_at"].combine_chunks().cast(pa.int64()).fill_null(-1))
        delay = np.maximum((known - at) / 1e6, 0.0)
        out = ~np.isfinite(label) | (known < 0) | (delay > horizon_s)
        group = _groups(joined, by)
        return LabelRows(
            np.where(out, np.nan, label)[usable],
            score[usable],
            weights_of(joined)[usable],
            np.where(out, np.nan, delay)[usable],
            np.minimum(ages_s(joined, known_by), horizon_s)[usable],
            at[usable],
            group[usable],
        )


def _groups(joined: pa.Table, by: Sequence[str]) -> NDArray[np.str_]:
    parts: list[list[str]] = []
    for name in by:
        column = name if name in joined.column_names else FEATURE_PREFIX + name
        if column not in joined.column_names:
            raise Invalid(f"The rows have no feature {name!r}.", hint="Read them with features.")
        parts.append([str(value) for value in joined[column].to_pylist()])
    return np.array([" ".join(one) for one in zip(*parts, strict=True)] or [""] * joined.num_rows)


class Kinds(msgspec.Struct, frozen=True):
    """How rows are told apart: by label, or by bins of labels that are numbers, and by group.

    A kind is a place among the labels and a group, '' of all groups: `own` are those with labels
    enough for a curve of their own. Rows of others have that of their label in all groups.
    """

    values: Floats  # the labels, or the inner edges of their bins
    binned: bool
    own: tuple[tuple[int, str], ...]

    @staticmethod
    def of(past: LabelRows, absent: float | None) -> Kinds:
        """The kinds of labels in the history; `absent` is none."""
        known = past.label[np.isfinite(past.label)]
        values = np.unique(known)
        binned = len(values) > 10
        if binned:
            values = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
        plain = Kinds(values, binned, ())
        place, own = plain.places(past.label), list[tuple[int, str]]()
        for one in range(len(values) + binned):
            if not binned and values[one] == absent:
                continue
            names, counts = np.unique(past.group[place == one], return_counts=True)
            own += [(one, ""), *((one, str(name)) for name in names[counts >= FEW] if name)]
        return Kinds(values, binned, tuple(own))

    def places(self, label: Floats) -> NDArray[np.intp]:
        """The kind of each label by its value, -1 of none, and of one that the history lacks."""
        known = np.isfinite(label)
        places = np.full(len(label), -1, np.intp)
        if self.binned:
            places[known] = np.searchsorted(self.values, label[known], side="left")
        elif len(self.values):
            near = np.minimum(np.searchsorted(self.values, label), len(self.values) - 1)
            same = known & (self.values[near] == label)
            places[same] = near[same]
        return places

    def name(self, place: int, group: str) -> str:
        """'label 1', or 'UA, label <= 12.5'."""
        if self.binned:
            ends = [*self.values.tolist(), math.inf]
            label = f"label <= {ends[place]:g}" if place < len(self.values) else "greater labels"
        else:
            label = f"label {self.values[place]:g}"
        return f"{group}, {label}" if group else label

    def curves(self, past: LabelRows) -> dict[str, DelayCurve]:
        """How the labels of each kind arrive, by the kind's name."""
        place = self.places(past.label)
        found: dict[str, DelayCurve] = {}
        for one, group in self.own:
            mine = (place == one) & (past.group == group) if group else place == one
            found[self.name(one, group)] = arrivals(
                past.delay_s[mine], past.age_s[mine], past.weight[mine]
            )
        return found

    def share(self, rows: LabelRows, curves: Mapping[str, DelayCurve]) -> Floats:
        """The share of each row's kind of labels that has arrived at its age; nan of no kind."""
        place = self.places(rows.label)
        found = np.full(rows.rows, np.nan)
        for one, group in self.own:  # that of all groups comes first
            mine = (place == one) & (rows.group == group) if group else place == one
            found[mine] = curves[self.name(one, group)].at(rows.age_s[mine])
        return found


def ages_s(joined: pa.Table, known_by: datetime) -> Floats:
    """How long before `known_by` each row was, in seconds, 0 at least."""
    return np.maximum((micros(known_by) - instants(joined)) / 1e6, 0.0)
