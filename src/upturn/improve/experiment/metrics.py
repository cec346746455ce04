"""Metrics: what is compared between arms, and the columns that each needs of a unit."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from upturn.core.errors import Invalid

Within = Literal["sum", "mean", "max", "min", "first"]
Better = Literal["higher", "lower"]


class Column(msgspec.Struct, frozen=True):
    """One number of a unit: a column of its rows, and how the rows become one value.

    Without a name it is the number of rows. `zero` counts a unit without a value as 0.
    """

    name: str | None
    within: Within = "sum"
    winsorize: float | None = None
    zero: bool = False


class _Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What all metrics have: a name, and which direction is good."""

    better: Better = "higher"
    name: str = ""

    @property
    def title(self) -> str:
        """The name to show."""
        raise NotImplementedError

    def _check(self, *columns: str) -> None:
        if self.better not in ("higher", "lower"):
            raise Invalid(
                f"{self.title}: better={self.better!r} is no direction.",
                hint='Write better="higher" or better="lower".',
            )
        for column in columns:
            if not isinstance(column, str) or not column:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise Invalid(f"A metric's column is a name, not {column!r}.")


class _Linear(_Metric, frozen=True, kw_only=True):
    """A metric that is a smooth function of means over units, with covariates to adjust by."""

    covariate: str | Sequence[str] = ()

    @property
    def outcomes(self) -> tuple[Column, ...]:
        """The columns whose means the metric is a function of."""
        raise NotImplementedError

    @property
    def covariates(self) -> tuple[Column, ...]:
        """The columns to adjust by; a unit's is that of its first row."""
        return tuple(Column(name, "first") for name in self.covariate_names)

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The names of the covariates."""
        return (self.covariate,) if isinstance(self.covariate, str) else tuple(self.covariate)

    def _check_covariates(self) -> None:
        if len(set(self.covariate_names)) != len(self.covariate_names) or not all(
            self.covariate_names
        ):
            raise Invalid(
                f"{self.title}: the covariates are {self.covariate_names}; each is named once."
            )
        if not isinstance(self.covariate, str):
            msgspec.structs.force_setattr(self, "covariate", self.covariate_names)


class Mean(_Linear, frozen=True, tag="mean", tag_field="metric"):
    """The mean over units of a number.

    - `within`: how the rows of one unit become its value: "sum", "mean", "max", "min" or "first".
    - `covariate`: columns known before the unit was exposed, to adjust by (CUPED).
    - `winsorize`: 0.999 clips at the 0.1 % and 99.9 % quantiles of the arms together.
    - `better`: which direction is good, "higher" or "lower".

    Units without a value are left out, and counted.

    >>> Mean("revenue", covariate="revenue_before", winsorize=0.999).title
    'revenue'
    """

    kind: ClassVar[str] = "mean"

    column: str
    winsorize: float | None = msgspec.field(default=None)
    within: Within = "sum"

    def __post_init__(self) -> None:
        """Raises Invalid."""
        self._check(self.column)
        self._check_covariates()
        if self.within not in ("sum", "mean", "max", "min", "first"):
            raise Invalid(
                f"{self.title}: within={self.within!r} is no way to make one value of several.",
                hint='There is "sum", "mean", "max", "min" and "first".',
            )
        if self.winsorize is not None and not 0.5 < self.winsorize < 1:
            raise Invalid(
                f"{self.title}: winsorize={self.winsorize!r} is not between 0.5 and 1.",
                hint="0.999 clips the highest and the lowest tenth of a per cent.",
            )

    @property
    def title(self) -> str:
        """The name to show."""
        return self.name or self.column

    @property
    def outcomes(self) -> tuple[Column, ...]:
        """The columns whose means the metric is a function of."""
        return (Column(self.column, self.within, self.winsorize),)


class Proportion(_Linear, frozen=True, tag="proportion", tag_field="metric"):
    """The share of units with a true value, in any of their rows: a column of 0 and 1.

    >>> Proportion("refunded", better="lower").title
    'refunded'
    """

    kind: ClassVar[str] = "proportion"

    column: str

    def __post_init__(self) -> None:
        """Raises Invalid."""
        self._check(self.column)
        self._check_covariates()

    @property
    def title(self) -> str:
        """The name to show."""
        return self.name or self.column

    @property
    def outcomes(self) -> tuple[Column, ...]:
        """The columns whose means the metric is a function of."""
        return (Column(self.column, "max"),)


class Count(_Linear, frozen=True, tag="count", tag_field="metric"):
    """How often something happened to a unit, on average: the sum of a column, or the rows.

    A unit without a value counts as 0.

    >>> Count("orders").title, Count().title
    ('orders', 'rows')
    """

    kind: ClassVar[str] = "count"

    column: str | None = None

    def __post_init__(self) -> None:
        """Raises Invalid."""
        self._check(*(() if self.column is None else (self.column,)))
        self._check_covariates()

    @property
    def title(self) -> str:
        """The name to show."""
        return self.name or self.column or "rows"

    @property
    def outcomes(self) -> tuple[Column, ...]:
        """The columns whose means the metric is a function of."""
        return (Column(self.column, zero=True),)


class Ratio(_Linear, frozen=True, tag="ratio", tag_field="metric"):
    """The sum of one column over the sum of another, or over the rows: clicks a view, say.

    The variance is that of the units, which were randomised, by the delta method (Deng, Knoblich
    & Lu 2018, arXiv:1803.06336): rows of one unit may depend on each other.

    >>> Ratio("clicks", "views").title, Ratio("latency_s").title
    ('clicks / views', 'latency_s / rows')
    """

    kind: ClassVar[str] = "ratio"

    numerator: str
    denominator: str | None = None

    def __post_init__(self) -> None:
        """Raises Invalid."""
        self._check(*filter(None, (self.numerator, self.denominator)))
        self._check_covariates()

    @property
    def title(self) -> str:
        """The name to show."""
        return self.name or f"{self.numerator} / {self.denominator or 'rows'}"

    @property
    def outcomes(self) -> tuple[Column, ...]:
        """The columns whose means the metric is a function of."""
        return Column(self.numerator), Column(self.denominator)


class Quantile(_Metric, frozen=True, tag="quantile", tag_field="metric"):
    """A quantile of the rows' values: Quantile("latency_s", 0.95). Rows of a unit may be many.

    >>> Quantile("latency_s", 0.95, better="lower").title
    'latency_s p95'
    """

    kind: ClassVar[str] = "quantile"

    column: str
    q: float

    def __post_init__(self) -> None:
        """Raises Invalid."""
        self._check(self.column)
        if not 0 < self.q < 1:
            raise Invalid(f"{self.column}: there is no quantile {self.q!r}.", hint="0.95, say.")

    @property
    def title(self) -> str:
        """The name to show."""
        return self.name or f"{self.column} p{100 * self.q:g}"


Linear = Mean | Proportion | Count | Ratio
Metric = Linear | Quantile


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """That an arm is not worse than the control by more than a margin."""

    metric: Metric
    margin: float  # in the metric's unit, or a share of the control's value
    relative: bool = False

    @property
    def title(self) -> str:
        """The name to show."""
        return self.metric.title


def non_inferior(metric: Metric, *, margin: float, relative: bool = False) -> Guardrail:
    """A guardrail: the metric must not get worse by `margin` or more.

    The margin is in the metric's own unit; with `relative`, a share of the control's value. What is
    worse says the metric's `better`. Not shown to be worse is not shown to be no worse: it passes
    when the whole interval is on the good side of the margin (Schumi & Wittes 2011).

    Raises Invalid for a margin that is not positive.

    >>> non_inferior(Proportion("refunded", better="lower"), margin=0.005).title
    'refunded'
    """
    if not isinstance(metric, Metric):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"A guardrail's metric is an up.Mean or the like, not {metric!r}.")
    if not (isinstance(margin, int | float) and 0 < margin < float("inf")):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(
            f"{metric.title}: a margin of {margin!r} is no margin.",
            hint="Say by how much it may get worse at most, as a number above 0.",
        )
    return Guardrail(metric=metric, margin=float(margin), relative=relative)
