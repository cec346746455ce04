"""Scores: what each version says of every past row, computed once, shared and kept."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from upturn.core.errors import Invalid
from upturn.core.records import Version
from upturn.improve.past.kept import Kept, digest_of, key_of, version_parts
from upturn.improve.past.rows import Past
from upturn.model.adapters import Predictor, load_predictor
from upturn.stores.workspace import Workspace

CHUNK = 20_000  # rows scored at a time, and then remembered


class Scores:
    """The score of every version for every past row, in chunks when first asked for.

    A chunk is kept in the store by the version's content and that of the rows, so that another
    rehearsal, of other policies or after Ctrl-C, reads it. Safe to use from several threads.
    """

    def __init__(
        self,
        workspace: Workspace,
        past: Past,
        find: Callable[[int], Version],
        kept: Kept | None = None,
    ) -> None:
        self._workspace = workspace
        self._past = past
        self._find = find
        self._kept = kept
        self._writing = threading.Lock()
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        self._locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._predictors: dict[int, Predictor] = {}
        self._chunks: dict[tuple[int, int], np.ndarray] = {}
        self._answers: dict[tuple[int, int], pa.Array[Any]] = {}
        self._digests: dict[tuple[tuple[str, ...], int], str] = {}

    def of(self, version: int, low: int, high: int) -> np.ndarray:
        """The scores of the rows at places low to high. Raises Invalid for a model without any."""
        parts = [self._chunk(version, chunk) for chunk in _chunks(low, high)]
        offset = low // CHUNK * CHUNK
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return whole[low - offset : high - offset]

    def once(self, version: int, low: int, high: int) -> np.ndarray:
        """The same for a version that is asked about once: nothing of it stays in memory."""
        parts = [
            self._chunks[version, chunk]
            if (version, chunk) in self._chunks
            else self._made(version, chunk)
            for chunk in _chunks(low, high)
        ]
        offset = low // CHUNK * CHUNK
        return np.concatenate(parts)[low - offset : high - offset]

    def answers(self, version: int, low: int, high: int) -> pa.ChunkedArray[Any]:
        """The scores as the Log has them as text: an answer, where nothing else was answered."""
        first = low // CHUNK * CHUNK
        parts = [self._text(version, chunk) for chunk in _chunks(low, high)]
        return pa.chunked_array(parts, pa.string()).slice(low - first, high - low)

    def _text(self, number: int, chunk: int) -> pa.Array[Any]:
        scores = self._chunk(number, chunk)
        if (number, chunk) not in self._answers:
            columns: dict[str, Any] = {"score": scores}
            table = pa.table(columns)
            # The Log's own way to write a number, so that both are the same.
            with self._writing:
                self._connection.register("scores", table)
                query = "SELECT CAST(score AS VARCHAR) AS answer FROM scores"
                text = self._connection.sql(query).to_arrow_table()["answer"].combine_chunks()
                self._connection.unregister("scores")
            self._answers[number, chunk] = text.cast(pa.string())
        return self._answers[number, chunk]

    def _chunk(self, number: int, chunk: int) -> np.ndarray:
        found = self._chunks.get((number, chunk))
        if found is None:
            found = self._chunks[number, chunk] = self._made(number, chunk)
        return found

    def _made(self, number: int, chunk: int) -> np.ndarray:
        with self._locks[number]:
            version = self._find(number)
            key = self._key(version, chunk)
            known = self._kept.find(key) if self._kept is not None else None
            if known is not None:
                return np.frombuffer(known, dtype=np.float64)
            scores = self._predict(version, chunk)
            if self._kept is not None:
                self._kept.put(key, scores.tobytes())
            return scores

    def _key(self, version: Version, chunk: int) -> str:
        names = version.signature.names
        missing = [name for name in names if name not in self._past.inputs.column_names]
        if missing:
            raise Invalid(
                f"The history has no column {missing[0]!r}, which {version.name} takes.",
                hint="A history has the inputs of every version that is tried on it.",
            )
        if (names, chunk) not in self._digests:
            self._digests[names, chunk] = digest_of(self._rows(names, chunk))
        return key_of("scores", version_parts(version), self._digests[names, chunk])

    def _rows(self, names: tuple[str, ...], chunk: int) -> pa.Table:
        return self._past.inputs.select(list(names)).slice(chunk * CHUNK, CHUNK)

    def _predict(self, version: Version, chunk: int) -> np.ndarray:
        number = version.number
        if number not in self._predictors:
            self._predictors[number] = load_predictor(self._workspace, version)
        scores = self._predictors[number].predict(self._rows(version.signature.names, chunk)).scores
        if scores is None:
            raise Invalid(
                f"{version.name} gives answers without scores.",
                hint="A rehearsal compares probabilities or numbers.",
            )
        return np.ascontiguousarray(scores, dtype=np.float64)


def _chunks(low: int, high: int) -> range:
    return range(low // CHUNK, max(low, high - 1) // CHUNK + 1)
