"""ModelWorker: what waits is predicted together, too much is refused, a failure is one's own."""

import asyncio
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from upturn.core.errors import ModelFailed
from upturn.deploy.serve import worker as module
from upturn.deploy.serve.pace import Pace
from upturn.deploy.serve.problems import Overloaded
from upturn.deploy.serve.rows import Block
from upturn.deploy.serve.worker import ModelWorker


class Model:
    """Doubles; stands still while `gate` is shut; refuses 13; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Sequence[tuple[Any, ...]]) -> tuple[list[float], list[Any]]:
        self.gate.wait(10)
        self.batches.append(len(rows))
        if any(row[0] == 13 for row in rows):
            raise ValueError("thirteen")
        return [2.0 * row[0] for row in rows], [2 * row[0] for row in rows]


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_requests_of_one_turn_are_predicted_together(inline_rows: int) -> None:
    async def run() -> tuple[list[Any], list[int]]:
        model = Model()
        worker = ModelWorker(model, name="m:1", inline_rows=inline_rows)
        found = await asyncio.gather(*(worker.submit([(n,), (n + 1,)]) for n in range(5)))
        worker.close()
        return [one.answers for one in found], model.batches

    answers, batches = asyncio.run(run())
    assert answers == [[2 * n, 2 * n + 2] for n in range(5)]
    assert batches == [10]


def test_what_comes_while_the_model_is_busy_is_the_next_batch() -> None:
    async def run() -> list[int]:
        model = Model()
        model.gate.clear()
        worker = ModelWorker(model, name="m:1", inline_rows=0)
        first = worker.submit([(0,)])
        await asyncio.sleep(0.01)
        later = [worker.submit([(n,)]) for n in range(7)]
        model.gate.set()
        await asyncio.gather(first, *later)
        return model.batches

    assert asyncio.run(run()) == [1, 7]


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_a_failing_request_fails_alone(inline_rows: int) -> None:
    async def run() -> list[Any]:
        worker = ModelWorker(Model(), name="m:1", inline_rows=inline_rows)
        asked = [worker.submit([(n,)]) for n in (12, 13, 14)]
        return await asyncio.gather(*asked, return_exceptions=True)

    before, failed, after = asyncio.run(run())
    assert (before.answers, after.answers) == ([24], [28])
    assert isinstance(failed, ModelFailed)
    assert "thirteen" not in str(failed)


def test_one_prediction_a_row_or_none() -> None:
    async def run() -> None:
        worker = ModelWorker(lambda rows: ([], []), name="m:1", inline_rows=0)
        with pytest.raises(ModelFailed, match="0 predictions for 1 rows"):
            await worker.submit([(1,)])

    asyncio.run(run())


def test_too_much_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_ROWS", 5)

    async def run() -> None:
        worker = ModelWorker(Model(), name="m:1", inline_rows=0)
        taken = [worker.submit([(0,)] * 9), worker.shadow([(0,)])]  # an empty queue takes anything
        assert worker.waiting_rows == 9
        with pytest.raises(Overloaded) as refused:
            worker.submit([(1,)])
        assert refused.value.fields["retry_after_s"] == 1
        for one in taken:
            assert one is not None
            await one
        assert (await worker.submit([(1,)])).answers == [2]

    asyncio.run(run())


def test_shadows_wait_for_answers_and_are_dropped_when_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SHADOW_ROWS", 5)

    async def run() -> list[int]:
        model = Model()
        worker = ModelWorker(model, name="m:1", inline_rows=0)
        shadow = worker.shadow([(1,)] * 4)
        assert worker.shadow([(1,)] * 2) is None
        answer = worker.submit([(1,)])
        assert shadow is not None
        await asyncio.gather(shadow, answer)
        worker.close()
        assert worker.shadow([(1,)]) is None
        return model.batches

    assert asyncio.run(run()) == [1, 4]


def test_a_matrix_and_tuples_are_batches_of_their_own() -> None:
    kinds: list[tuple[str, int]] = []

    def predict(block: Block) -> tuple[None, list[Any]]:
        kinds.append((type(block).__name__, len(block)))
        return None, [row[0] for row in block]

    async def run() -> list[Any]:
        worker = ModelWorker(predict, name="m:1", inline_rows=0)
        blocks: list[Block] = [np.ones((2, 1)), np.ones((1, 1)), [(2,)], [(3,)], np.ones((1, 1))]
        found = await asyncio.gather(*map(worker.submit, blocks))
        worker.close()
        return [one.answers for one in found]

    assert asyncio.run(run()) == [[1, 1], [1], [2], [3], [1]]
    assert kinds == [("ndarray", 3), ("list", 2), ("ndarray", 1)]


def test_batches_are_no_larger_than_is_predicted_in_good_time() -> None:
    async def run() -> list[int]:
        model = Model()
        worker = ModelWorker(model, name="m:1", inline_rows=0, pace=Pace([(1, module.BATCH_S / 3)]))
        model.gate.clear()
        first = worker.submit([(0,)])
        await asyncio.sleep(0)
        later = [worker.submit([(n,)]) for n in range(2)]
        later.append(worker.submit([(5,)] * 9))  # one request's rows stay together
        model.gate.set()
        await asyncio.gather(first, *later)
        return model.batches

    assert asyncio.run(run())[:2] == [1, 2]


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    async def run() -> None:
        model = Model()
        model.gate.clear()
        worker = ModelWorker(model, name="m:1", inline_rows=0, pace=Pace([(1, 1.0)]))
        taken = [worker.submit([(0,)])]
        await asyncio.sleep(0.01)  # the thread has it
        taken.append(worker.submit([(1,)]))  # nobody waits: taken, whatever it takes
        assert worker.is_full()
        with pytest.raises(Overloaded, match="too many requests waiting"):
            worker.submit([(2,)])
        model.gate.set()
        await asyncio.gather(*taken)
        assert not worker.is_full()

    asyncio.run(run())


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    async def run() -> None:
        worker = ModelWorker(Model(), name="m:1", inline_rows=0, pace=Pace([(1, 1.0)]))
        with pytest.raises(Overloaded, match="can't answer within the deadline"):
            worker.submit([(1,)], perf_counter() + 0.5)
        assert (await worker.submit([(1,)], perf_counter() + 60)).answers == [2]

    asyncio.run(run())


def test_nobody_waits_for_a_model_that_hangs_beyond_the_deadline() -> None:
    async def run() -> None:
        model = Model()
        model.gate.clear()
        worker = ModelWorker(model, name="m:1", inline_rows=0)
        flying = worker.submit([(1,)], perf_counter() + 0.1)
        await asyncio.sleep(0.01)
        waiting = worker.submit([(2,)], perf_counter() + 0.1)
        for one in (flying, waiting):
            with pytest.raises(Overloaded, match="can't answer within the deadline"):
                await one
        model.gate.set()
        assert (await worker.submit([(3,)])).answers == [6]

    asyncio.run(run())


def test_a_shadow_that_went_before_does_not_make_anybody_late() -> None:
    async def run() -> None:
        model = Model()
        worker = ModelWorker(model, name="m:1", inline_rows=0, pace=Pace([(1, 1e-4)]))
        await worker.submit([(0,)])
        await asyncio.sleep(1.1)  # longer than a batch may be late
        model.gate.clear()
        shadow = worker.shadow([(1,)])
        await asyncio.sleep(0.01)  # the thread has it
        waiting = worker.submit([(2,)])
        assert not worker.is_full()
        model.gate.set()
        assert shadow is not None
        await asyncio.gather(shadow, waiting)

    asyncio.run(run())


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_a_closed_worker_answers_who_was_admitted_before(inline_rows: int) -> None:
    def threads() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "model closed:1"]

    async def run() -> list[Any]:
        worker = ModelWorker(Model(), name="closed:1", inline_rows=inline_rows)
        answers: list[Any] = []
        for number in (1, 2, 3):  # the first before it is closed, the others once its thread ended
            found = await asyncio.wait_for(worker.submit([(number,)], perf_counter() + 10), 5)
            answers.append(found.answers)
            worker.close()
            await asyncio.gather(*(asyncio.to_thread(one.join, 5) for one in threads()))
            assert not threads()
        return answers

    assert asyncio.run(run()) == [[2], [4], [6]]
