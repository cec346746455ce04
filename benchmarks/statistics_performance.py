"""What monitors' statistics claim, by simulation: coverage, bias of early labels, false alarms.

    python benchmarks/statistics_performance.py [--draws 500]

Prints one line a claim; a minute or two with the default.
"""

import argparse
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from upturn.improve.intervals import Blocks, metric_interval
from upturn.improve.metrics import get_metric
from upturn.improve.monitor.anomalies import watch_failures, watch_latency, watch_traffic
from upturn.improve.monitor.estimated import fit_estimator
from upturn.improve.monitor.maturing import mature
from upturn.improve.monitor.performance import performance
from upturn.improve.monitor.shares import grown
from upturn.improve.monitor.traffic import Traffic

DAY, HOUR = 86_400_000_000, 3_600_000_000
STAMP = pa.timestamp("us", "UTC")


def intervals(random: np.random.Generator, draws: int) -> None:
    """Coverage of 95 % intervals of metrics over 7 to 28 days whose log odds differ by `spread`."""

    def draw(sizes: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        day = np.repeat(np.arange(len(sizes)), sizes)
        logit = random.normal(0, 1.2, len(day))
        own = random.normal(0, spread, len(sizes))[day]
        labels = (random.random(len(day)) < 1 / (1 + np.exp(-logit - own))).astype(float)
        return labels, 1 / (1 + np.exp(-logit)), day

    for spread in (0.0, 0.6):
        labels, scores, _ = draw(np.full(8000, 100), spread)
        for name in ("auc", "log_loss", "f1", "average_precision", "ks", "mcc"):
            metric = get_metric(name)
            truth = metric.function(labels, scores)
            found = []
            for days in (7, 14, 28):
                held = 0
                for _ in range(draws):
                    y, s, day = draw(random.integers(60, 180, days), spread)
                    held += not metric_interval(metric, y, s, Blocks(day, days, "days")).excludes(
                        truth
                    )
                found.append(f"{days} days {held / draws:.3f}")
            print(f"interval of {name:<18} days differ by {spread}: {', '.join(found)}")


def maturing(random: np.random.Generator, draws: int) -> None:
    """Bias of early labels and of the correction; positive labels are five times as slow."""
    now = datetime(2025, 6, 1, tzinfo=UTC)

    def log(rows: int) -> pa.Table:
        logit = random.normal(-0.5, 1.2, rows)
        label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
        age = np.sort(random.random(rows) * 90)[::-1] * DAY
        delay = random.exponential(np.where(label > 0, 10.0, 2.0)) * DAY
        at = (now.timestamp() * 1e6 - age).astype(np.int64)
        out = delay > age
        known = pa.array((at + np.where(out, 0, delay)).astype(np.int64), mask=out)
        return pa.table(
            {
                "at": pa.array(at).cast(STAMP),
                "score": 1 / (1 + np.exp(-logit)),
                "label": pa.array(np.where(out, np.nan, label), from_pandas=True),
                "known_at": known.cast(STAMP),
            }
        )

    logit = random.normal(-0.5, 1.2, 2_000_000)
    label = (random.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(float)
    names = ("auc", "log_loss", "brier", "f1")
    truth = {name: get_metric(name).function(label, 1 / (1 + np.exp(-logit))) for name in names}
    found = []
    for _ in range(draws):
        history = log(9000)
        window = history.slice(7000)
        found.append(mature(window, history, known_by=now, metrics=names))
    for name in names:
        naive = np.mean([one.naive[name] for one in found])
        corrected = np.mean([one.values[name] for one in found])
        held = np.mean([not one.intervals[name].excludes(truth[name]) for one in found])
        print(
            f"maturing {name:<9} truth {truth[name]:.4f}, early labels {naive:.4f}, "
            f"corrected {corrected:.4f}, 95 % intervals hold {held:.3f}"
        )


def estimates(random: np.random.Generator, draws: int) -> None:
    """How often labels are within the intervals of estimates, by how far inputs have shifted."""

    def log(days: int, shift: float) -> pa.Table:
        day = np.repeat(np.arange(days), 150)
        x = random.normal(shift, 1.0, len(day))
        own = random.normal(0, 0.2, days)[day]
        logit = 1.3 * x - 0.4
        label = (random.random(len(day)) < 1 / (1 + np.exp(-logit - own))).astype(float)
        at = pa.array(day * DAY).cast(STAMP)
        return pa.table({"at": at, "score": 1 / (1 + np.exp(-1.6 * logit)), "label": label})

    names = ("auc", "log_loss", "brier", "accuracy", "f1")
    shifts = (0.0, 0.4, -0.5, 0.8)
    held = {name: dict.fromkeys(shifts, 0) for name in names}
    for _ in range(draws):
        fitted = fit_estimator(log(40, 0.0), metrics=names)
        for shift in shifts:
            rows = log(10, shift)
            found, real = fitted.estimate(rows), performance(rows, names)
            for name in names:
                held[name][shift] += not found.intervals[name].excludes(real.values[name])
    for name in names:
        said = ", ".join(
            f"{shift:+.1f}: {count / draws:.3f}" for shift, count in held[name].items()
        )
        print(f"estimated {name:<9} intervals hold what labels say, by shift of inputs {said}")


def quality(random: np.random.Generator, draws: int) -> None:
    """False alarms of `grown` at 0.01, of a share whose days differ."""
    for spread in (0.0, 0.3, 0.6):
        wrong = 0
        for _ in range(10 * draws):
            odds = np.exp(random.normal(-4, spread, 74))
            counts = random.binomial(2000, odds / (1 + odds))
            found = grown(counts[:14], np.full(14, 2000), float(counts[14:].sum()), 60 * 2000.0)
            wrong += found.p_value < 0.01
        print(f"grown share, days differ by {spread}: p < 0.01 in {wrong / draws / 10:.4f}")


def service(random: np.random.Generator, draws: int) -> None:
    """Alarms a year of hours, of series that are as they always were."""
    names = ("too few", "too many", "p50", "p99", "failures")
    for scale in (3.0, 100.0, 3000.0):
        found, hours = np.zeros(5), 0
        for number in range(max(4, draws // 20)):
            memory, spread = ((0.0, 0.0), (0.0, 0.1), (0.8, 0.1), (0.5, 0.3))[number % 4]
            count = 16 * 168
            hour = np.arange(count)
            season = 1 + 0.7 * np.sin(2 * np.pi * hour / 24) - 0.25 * (hour % 168 >= 120)
            noise = np.zeros(count)
            steps = random.normal(0, spread * np.sqrt(1 - memory**2), count)
            for one in range(1, count):
                noise[one] = memory * noise[one - 1] + steps[one]
            growth = random.choice([0.0, 0.5, -0.5]) * hour / count
            requests = random.poisson(scale * np.maximum(season, 0.05) * np.exp(noise + growth))
            failing = np.minimum(0.002 * np.exp(random.normal(0, 0.5, count)), 1)
            p99 = np.exp(random.normal(-3, 0.1, count) + noise / 2)
            seen = Traffic(
                starts=hour * HOUR,
                step=timedelta(hours=1),
                requests=requests.astype(float),
                failed=random.binomial(requests, failing).astype(float),
                latency_s={"p50": p99 / 4, "p99": p99},
            )
            watched = [
                *watch_traffic(seen),
                watch_latency(seen, "p50"),
                watch_latency(seen, "p99"),
                watch_failures(seen),
            ]
            found += [int((one.alarm[1:] & ~one.alarm[:-1]).sum()) for one in watched]
            hours += count
        said = ", ".join(
            f"{name} {alarms / hours * 8760:.2f}" for name, alarms in zip(names, found, strict=True)
        )
        print(f"false alarms a year, {scale:g} requests an hour: {said}")


def main() -> None:
    """Run every simulation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    draws = parser.parse_args().draws
    random = np.random.default_rng(20250601)
    intervals(random, draws)
    maturing(random, max(1, draws // 2))
    estimates(random, max(1, draws // 4))
    quality(random, draws)
    service(random, draws)


if __name__ == "__main__":
    main()
