"""The year as it goes by: every flight a row of a request, every landing a label, a tick a day."""

import http.client
import select
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
import polars as pl
from data import FEATURES
from data import features as describe
from flights import loop, midnight
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import upturn as up
from upturn.core.records import Decision
from upturn.deploy.running import running_server
from upturn.improve.runner import tick
from upturn.wiring import loop_parts

DAY = timedelta(days=1)


class Year:
    """The flights between two days, and what came of asking about them."""

    def __init__(self, start: date, until: date) -> None:
        self.start, self.end = midnight(start), midnight(until) + DAY
        self.workspace = up.open_workspace()
        self.log, self.actions = loop_parts(self.workspace, loop)
        self.decisions: list[Decision] = []
        self.sample = ""  # the prediction whose lineage the report shows, and its row in the source
        self.sample_row = 0
        self._ids: dict[int, str] = {}

    def live(self) -> None:
        """Send everything in time order, and let the loop decide at the end of each day."""
        table = describe().filter(pl.col("at") >= self.start, pl.col("at") < self.end)
        server = running_server(self.workspace)
        assert server is not None
        client = Client(server.url)
        landings = Landings(table)
        with _progress() as bar:
            days = bar.add_task("", total=(self.end - self.start) // DAY)
            day = self.start
            for hour, flights in _by_hour(table):
                while hour >= day + DAY:
                    day += DAY
                    self._tell(client, landings.before(day))
                    self._decide(day, bar)
                    bar.update(days, advance=1, description=f"{day:%d %b}")
                self._tell(client, landings.before(hour))
                self._ask(client, flights)
            self._tell(client, landings.before(self.end))
            self._decide(self.end, bar)
            bar.update(days, completed=(self.end - self.start) // DAY)
        client.close()

    def _ask(self, client: "Client", flights: pl.DataFrame) -> None:
        rows = flights.select(*FEATURES, "tail_number").to_dicts()
        at = [moment.isoformat() for moment in flights["at"]]
        answer = client.post("predict", {"rows": rows, "at": at})
        ids = [prediction["id"] for prediction in answer["predictions"]]
        self._ids.update(zip(flights["flight_id"], ids, strict=True))
        self.sample, self.sample_row = ids[0], flights["flight_id"][0]

    def _tell(self, client: "Client", landed: pl.DataFrame) -> None:
        feedback = [
            {"id": self._ids.pop(flight), "label": bool(late), "known_at": at.isoformat()}
            for flight, late, at in landed.iter_rows()
        ]
        if feedback:
            client.post("feedback", {"feedback": feedback})

    def _decide(self, now: datetime, bar: Progress) -> None:
        for decision in tick(loop, self.log, self.actions, self.workspace.meta, now):
            self.decisions.append(decision)
            if decision.action not in ("keep", "watch", "wait"):
                bar.print(f"  {now:%d %b}  {decision.action:<9}{decision.why}", highlight=False)


class Client:
    """One connection to the endpoint, kept open, and opened again where the server closed it."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(self, what: str, body: Any) -> Any:
        """The answer to a request. Raises RuntimeError with the server's words for any refusal."""
        if self._hung_up():  # a training took longer than a server keeps an idle connection
            self._connection.close()
        self._connection.request(
            "POST",
            f"/v1/endpoints/{loop.endpoint.name}/{what}",
            msgspec.json.encode(body),
            {"Content-Type": "application/json"},
        )
        response = self._connection.getresponse()
        data = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{what}: {response.status} {data.decode()}")
        return msgspec.json.decode(data)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _hung_up(self) -> bool:
        """Between requests there is nothing to read but the end of the connection."""
        sock = self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])


class Landings:
    """The flights in the order in which they land."""

    def __init__(self, table: pl.DataFrame) -> None:
        landed = table.filter(pl.col("landed_at").is_not_null())
        self._left = landed.select("flight_id", "late", "landed_at").sort("landed_at", "flight_id")

    def before(self, at: datetime) -> pl.DataFrame:
        """Those that land before an instant and were not given yet."""
        count = self._left["landed_at"].search_sorted(at)
        found, self._left = self._left[:count], self._left[count:]
        return found


def _by_hour(table: pl.DataFrame) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """The flights that are due in each hour, in order, with the hour."""
    hours = table.sort("at", "flight_id").with_columns(turn=pl.col("at").dt.truncate("1h"))
    for (hour,), rows in hours.group_by("turn", maintain_order=True):
        yield hour, rows


def _progress() -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
