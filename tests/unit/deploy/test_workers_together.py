"""Several ServingApps that tell each other their states answer for the whole server."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.serving import GOOD, Project, one
from upturn.deploy.serve.state import merge_gone
from upturn.server.app import Application


@pytest.fixture
def project(tmp_path: Path) -> Any:
    project = Project(tmp_path / "project")
    project.register("arms", project.model("Constant", 1.0))
    project.register("arms", project.model("Broken", "nan"))
    project.endpoint("arms")
    project.route("arms", one(1))
    yield project
    project.workspace.close()


class Worker:
    """An application in this process, as a worker process has one."""

    def __init__(self, project: Project) -> None:
        self.app = Application(project.workspace)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://localhost"
        )

    async def start(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.app.serving.running())
        for _ in range(2000):
            if (await self.client.get("/readyz")).status_code == 200:
                return
            await asyncio.sleep(0.01)
        pytest.fail("it was not ready in time")

    async def ask(self, times: int) -> None:
        for _ in range(times):
            answer = await self.client.post("/v1/endpoints/arms/predict", json={"row": GOOD})
            assert answer.status_code == 200

    async def page(self) -> dict[str, Any]:
        return (await self.client.get("/v1/endpoints/arms")).json()

    async def metric(self, name: str, **labels: str) -> float:
        text = (await self.client.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and set(labels.items()) <= set(sample.labels.items())
        )


def test_any_worker_answers_for_all_and_for_those_that_are_gone(project: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            first, second = Worker(project), Worker(project)
            await first.start(stack)
            async with AsyncExitStack() as second_ends:
                await second.start(second_ends)
                await first.ask(3)
                await second.ask(4)
                first.app.serving.take_states([second.app.serving.state()])
                second.app.serving.take_states([first.app.serving.state()])
                for worker in (first, second):
                    page = await worker.page()
                    assert (page["counters"]["requests"], page["counters"]["rows"]) == (7, 7)
                    assert (page["route"], len(page["workers"])) == (1, 2)
                    assert await worker.metric("upturn_requests_total", status="200") == 7
                    assert await worker.metric("upturn_request_seconds_count", arm="champion") == 7
                    assert await worker.metric("upturn_workers") == 2
            gone = merge_gone(second.app.serving.state())
            third = Worker(project)
            await third.start(stack)
            await third.ask(2)
            first.app.serving.take_states([gone, third.app.serving.state()])
            page = await first.page()
            assert (page["counters"]["requests"], len(page["workers"])) == (9, 2)
            assert await first.metric("upturn_predictions_total", endpoint="arms") == 9
            for worker in (first, second, third):
                await worker.client.aclose()

    asyncio.run(run())


def test_a_counter_does_not_fall_when_the_worker_that_told_it_is_killed(project: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            killed, other = Worker(project), Worker(project)
            await killed.start(stack)
            await other.start(stack)
            await killed.ask(3)
            sent = killed.app.serving.state()
            await killed.ask(2)  # nobody has been told of these
            told = await killed.metric("upturn_requests_total")
            assert (await killed.page())["counters"]["requests"] == 5
            other.app.serving.take_states([merge_gone(sent)])
            assert await other.metric("upturn_requests_total") == told == 3
            for worker in (killed, other):
                await worker.client.aclose()

    asyncio.run(run())


def test_a_state_is_the_same_while_nothing_happens(project: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            worker = Worker(project)
            await worker.start(stack)
            said = {worker.app.serving.state() for _ in range(3)}
            await worker.ask(1)
            after = worker.app.serving.state()
            assert after not in said
            assert len(said) <= 2  # two, if a second went by
            await worker.client.aclose()

    asyncio.run(run())


def test_a_route_is_served_once_every_worker_serves_it(project: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            first, late = Worker(project), Worker(project)
            await first.start(stack)
            first.app.serving.take_states([late.app.serving.state()])  # it has loaded nothing yet
            assert (await first.page())["route"] is None
            assert await first.metric("upturn_workers_ready") == 1
            await late.start(stack)
            first.app.serving.take_states([late.app.serving.state()])
            assert (await first.page())["route"] == 1
            project.route("arms", one(2))  # which no worker takes
            for _ in range(2000):
                if (await late.page())["refused"] is not None:
                    break
                await asyncio.sleep(0.01)
            first.app.serving.take_states([late.app.serving.state()])
            page = await first.page()
            assert (page["route"], page["refused"]["route"]) == (1, 2)
            for worker in (first, late):
                await worker.client.aclose()

    asyncio.run(run())


def test_a_worker_is_not_ready_before_it_has_looked_and_while_it_ends(project: Project) -> None:
    async def run() -> None:
        worker = Worker(project)
        answer = await worker.client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
        async with AsyncExitStack() as stack:
            await worker.start(stack)
            worker.app.serving.draining = True
            for path in ("/readyz", "/health/ready"):
                answer = await worker.client.get(path)
                assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
            assert (await worker.client.get("/healthz")).status_code == 200
            await worker.ask(1)  # who comes nevertheless is answered
        await worker.client.aclose()

    asyncio.run(run())


def test_what_cannot_be_read_is_no_worker(project: Project) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            worker = Worker(project)
            await worker.start(stack)
            worker.app.serving.take_states([b"", b"\xc1", worker.app.serving.state()])
            (only,) = (await worker.page())["workers"]
            assert only["pid"] == os.getpid()
            await worker.client.aclose()

    asyncio.run(run())
