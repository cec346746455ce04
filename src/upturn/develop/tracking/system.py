"""System metrics: what a run's processes and their machine use, as metrics `system/…`."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EVERY_S = 10.0
Take = Callable[[Mapping[str, Any], int | None], None]


class SystemMetrics:
    """Takes a sample when it is called and one is due; the step is the sample's number."""

    def __init__(self, take: Callable[[], Take], home: Path, *, every_s: float = EVERY_S) -> None:
        """`take()` is what takes metrics; `home` lies on the disk that is looked at."""
        self._take, self._home, self._every_s = take, home, every_s
        self._next, self._count = 0.0, 0
        self._machine = _Machine(home)

    def __call__(self, *, last: bool = False) -> None:
        """Sample, if it is time to, or if it is for the last time."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + self._every_s
        metrics = self._machine.sample(now)
        self._take()({f"system/{name}": value for name, value in metrics.items()}, self._count)
        self._count += 1


class _Machine:
    """What is used; rates and sums are since the sample before, and since the first one."""

    def __init__(self, home: Path) -> None:
        import psutil

        self._psutil: Any = psutil
        self._home = str(home)
        self._own = psutil.Process()
        self._gpus = _gpus()
        self._at: float | None = None
        self._spent: dict[tuple[int, float], float] = {}  # seconds of CPU, by process
        self._machine_cpu: tuple[float, float] | None = None  # busy, and all
        self._moved_first: dict[str, int] = {}

    def sample(self, now: float) -> dict[str, float]:
        """The metrics by name, of those that this system tells."""
        found: dict[str, float] = {}
        for part in (self._cpu, self._memory, self._disk, self._moved, self._gpu):
            # Containers and systems that tell less are no reason to end anything.
            with contextlib.suppress(OSError, self._psutil.Error, RuntimeError, AttributeError):
                part(found, now)
        self._at = now
        return found

    def _processes(self) -> list[Any]:
        return [self._own, *self._own.children(recursive=True)]

    def _cpu(self, found: dict[str, float], now: float) -> None:
        times = self._psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        whole = sum(getattr(times, name) for name in ("user", "nice", "system", "idle")) + sum(
            getattr(times, name, 0.0) for name in ("iowait", "irq", "softirq", "steal")
        )
        before, self._machine_cpu = self._machine_cpu, (whole - idle, whole)
        if before is not None and whole > before[1]:
            share = (whole - idle - before[0]) / (whole - before[1])
            found["cpu_percent"] = round(100 * min(1.0, max(0.0, share)), 2)
        spent: dict[tuple[int, float], float] = {}
        for process in self._processes():
            with contextlib.suppress(self._psutil.Error):
                used = process.cpu_times()
                spent[process.pid, process.create_time()] = used.user + used.system
        if self._at is not None and now > self._at:
            more = sum(max(0.0, s - self._spent.get(key, 0.0)) for key, s in spent.items())
            found["process_cpu_percent"] = round(100 * more / (now - self._at), 2)
        self._spent = spent

    def _memory(self, found: dict[str, float], _: float) -> None:
        memory = self._psutil.virtual_memory()
        found["memory_percent"] = memory.percent
        found["memory_bytes"] = memory.total - memory.available
        size = 0
        for process in self._processes():
            with contextlib.suppress(self._psutil.Error):
                size += process.memory_info().rss
        found["process_memory_bytes"] = size

    def _disk(self, found: dict[str, float], _: float) -> None:
        found["disk_percent"] = self._psutil.disk_usage(self._home).percent

    def _moved(self, found: dict[str, float], _: float) -> None:
        """Bytes read, written, received and sent by the whole machine since the first sample."""
        disk, network = self._psutil.disk_io_counters(), self._psutil.net_io_counters()
        moved: dict[str, int] = {}
        if disk is not None:
            moved |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
        if network is not None:
            moved["network_received_bytes"] = network.bytes_recv
            moved["network_sent_bytes"] = network.bytes_sent
        for name, count in moved.items():
            found[name] = count - self._moved_first.setdefault(name, count)

    def _gpu(self, found: dict[str, float], _: float) -> None:
        for number, (library, handle) in enumerate(self._gpus):
            with contextlib.suppress(library.NVMLError):  # not every one tells its power
                used = library.nvmlDeviceGetUtilizationRates(handle)
                memory = library.nvmlDeviceGetMemoryInfo(handle)
                found[f"gpu_{number}_percent"] = used.gpu
                found[f"gpu_{number}_memory_bytes"] = memory.used
                found[f"gpu_{number}_memory_percent"] = round(100 * memory.used / memory.total, 2)
                found[f"gpu_{number}_power_watts"] = library.nvmlDeviceGetPowerUsage(handle) / 1000


def _gpus() -> list[tuple[Any, Any]]:
    """The library and the handle of each GPU; none where nvidia-ml-py or its driver is missing."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []
    library: Any = pynvml
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
        return [(library, library.nvmlDeviceGetHandleByIndex(number)) for number in range(count)]
    except library.NVMLError:
        return []
