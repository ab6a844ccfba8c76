"""Workers: processes of this machine, or those of a dask scheduler anywhere.

Tasks are given out a few at a time and results taken back one by one, so that neither side holds
more than what is at hand, however many there are. What dies on the way is done again: a worker by
the scheduler, a scheduler that comes back by us.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ...core.errors import AtomicityError, format_error, reason_of, require_extra
from ...core.from_dict import dataclass_from_json
from ...core.processes import without_ctrl_c
from ...core.progress import Stop, check
from ...core.text import pluralise
from ...io.files import read_document
from .sent_model import ModelSender, SentModel

# ---- addresses of dask schedulers, and properties of this machine

POLL_S = 0.5


def is_file(scheduler: str) -> bool:
    """Whether this names a file that a scheduler writes, not an address."""
    return scheduler.endswith(".json")


@dataclass(frozen=True)
class _SchedulerFile:
    address: str


def address_of(scheduler: str) -> str:
    """Return the address itself, or the one in the file of a scheduler.

    Raises `OSError` or `ValueError` if the file is not there yet, or not whole.
    """
    if not is_file(scheduler):
        return scheduler
    try:
        return dataclass_from_json(_SchedulerFile, read_document(scheduler)).address
    except ValueError as error:
        raise ValueError(f"{scheduler} names no scheduler ({error})") from error


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return max(1, os.cpu_count() or 1)


def has_bokeh() -> bool:
    """Whether dask can show its dashboard."""
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


@contextlib.contextmanager
def silence_dask_log() -> Iterator[None]:
    """Dask's own words on what we report ourselves."""
    names = ("distributed", "distributed.client", "tornado.application")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


with require_extra("batch", "analysing on several processes"):
    from distributed import Client, Future, KilledWorker, LocalCluster

PATIENCE_S = 600.0
"""How long no worker or no scheduler is waited for."""
AHEAD = 2
"""Tasks given out for each thread of the workers: one that runs and one that waits."""
DEATHS = 2
"""A task that so many workers of this machine have died with is not tried again."""
_COUNT_S = 2.0
_GONE = ("cancelled", "lost")
T = TypeVar("T")
R = TypeVar("R")
Notice = Callable[[str], None]


class SchedulerLost(AtomicityError):  # noqa: N818  (it says what happened)
    """The scheduler has gone, or nobody works for it."""


class Failed(Exception):  # noqa: N818  (it is a result)
    """A task that can't be done, whoever tries; the words say why."""


@dataclass(eq=False)
class _Given(Generic[T]):
    task: T
    future: Future
    alone: bool


class Workers:
    """Where tasks are done; a context in which they are there.

    Raises `SchedulerLost` or `Cancelled` on entering, if the scheduler does not answer, or if
    ``stop()`` says so.
    """

    def __init__(
        self,
        model: SentModel,
        workers: int | None = None,  # number of processes on this machine; as many as cores if None
        scheduler: str | None = None,
        notice: Notice | None = None,  # told in words what a person should know
        patience_s: float = PATIENCE_S,
        most: int | None = None,  # no more processes than this are of use
        stop: Stop | None = None,
    ) -> None:
        self.model = model
        self._address = scheduler
        self._notice = notice or (lambda _: None)
        self._patience_s, self._stop = patience_s, stop
        cores = available_cores()
        self._n = max(1, min(workers or cores, most or cores))
        self._threads = max(1, cores // self._n)
        self._run = uuid.uuid4().hex[:12]
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._n_threads, self._counted_at = 0, 0.0
        self._nobody_since: float | None = None
        self._told_at = 0.0

    # ---- coming and going
    def __enter__(self) -> Workers:
        try:
            self._client = self._start() if self._address is None else self._connect(self._stop)
            self._send()
        except BaseException:
            self.__exit__()
            raise
        where = self._client.dashboard_link if has_bokeh() else ""
        if where:
            self._notice(f"dashboard: {where}")
        else:
            self._notice("no dashboard: it needs bokeh (pip install bokeh)")
        return self

    def __exit__(self, *_: object) -> None:
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        with silence_dask_log(), contextlib.suppress(Exception):
            if client is not None:
                if cluster is None and client.status == "running":
                    client.unregister_worker_plugin(f"atomicity-{self._run}")
                client.close(timeout=5)
            if cluster is not None:
                cluster.close(timeout=10)

    def _start(self) -> Client:
        import dask

        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), self._threads
        )
        settings = {
            # Without dask's MALLOC_TRIM_THRESHOLD_, which makes the system clear the pages of every
            # array anew, and images are made of large arrays.
            "distributed.nanny.pre-spawn-environ": threads,
            # Not before the process is spawned: dask leaves those variables in this process too,
            # where numba then refuses to compile, as its threads are running.
            "distributed.nanny.environ": {"NUMBA_NUM_THREADS": self._threads},
            "distributed.scheduler.allowed-failures": DEATHS - 1,
        }
        try:
            # Threads that start here start the workers, also later ones.
            with dask.config.set(settings), without_ctrl_c():
                self._cluster = LocalCluster(
                    n_workers=self._n,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=":0" if has_bokeh() else None,
                    silence_logs=logging.CRITICAL,
                )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise AtomicityError(
                f"workers could not be started ({reason_of(error)})",
                advice="Try fewer (--workers 1), and see whether memory and the folder for "
                "temporary files have room",
            ) from error
        self._notice(f"{pluralise(self._n, 'worker')} on this machine")
        return Client(self._cluster, set_as_default=False)

    def _connect(self, stop: Stop | None = None) -> Client:
        """Connect; raise `SchedulerLost` after the timeout, `Cancelled` if ``stop()`` is True."""
        assert self._address is not None
        first = self._client is None
        until = time.monotonic() + (min(30.0, self._patience_s) if first else self._patience_s)
        timeout_s = min(5.0, self._patience_s)
        while True:
            check(stop)
            try:
                with silence_dask_log():
                    return Client(
                        address_of(self._address), timeout=timeout_s, set_as_default=False
                    )
            except (OSError, TimeoutError, ValueError) as error:
                nonsense = isinstance(error, ValueError) and not is_file(self._address)
                if time.monotonic() > until or nonsense:
                    raise SchedulerLost(
                        f"the scheduler at {self._address} does not answer",
                        advice="Check the address, and that it runs; the same command goes on "
                        "where this run stopped",
                    ) from error
                time.sleep(POLL_S)

    def _send(self) -> None:
        assert self._client is not None
        threads = self._threads if self._cluster is not None else None
        try:
            self._client.register_plugin(ModelSender(self.model, threads, self._run))
        except Exception as error:
            raise AtomicityError(
                f"the model could not be sent to the workers ({error})",
                advice="They need the same version of napari-atomicity",
            ) from error

    # ---- tasks
    def each(
        self, function: Callable[[T], R], tasks: Iterable[T], stop: Stop | None = None
    ) -> Generator[tuple[T, R | Failed], None, None]:
        """Apply a function to each task on the workers; an executor of `image_loop.for_each_image`.

        Raises `SchedulerLost` if there are no workers any more.
        """
        given: dict[Any, _Given[T]] = {}
        back: queue.SimpleQueue[Future] = queue.SimpleQueue()
        waiting: deque[tuple[T, bool]] = deque()  # tasks to submit again, and whether alone
        more = iter(tasks)
        try:
            while True:
                self._give_out(function, more, waiting, given, back)
                if not given and not waiting:
                    return
                check(stop)
                try:
                    future = back.get(timeout=POLL_S)
                except queue.Empty:
                    self._look_after(given, waiting, stop)
                    continue
                one = given.get(future.key)
                if one is not None and one.future is future:
                    yield from self._take(one, given, waiting, stop)
        finally:
            self._take_back(given)

    def _take(
        self,
        one: _Given[T],
        given: dict[Any, _Given[T]],
        waiting: deque[tuple[T, bool]],
        stop: Stop | None,
    ) -> Iterator[tuple[T, Any]]:
        """Yield the result of a completed task; nothing if the task must run again."""
        result = self._result(one, stop)
        del given[one.future.key]
        with contextlib.suppress(Exception):
            one.future.release()
        if isinstance(result, _Lost):
            waiting.append((one.task, one.alone))
            self._recover(stop)
        elif isinstance(result, KilledWorker) and not one.alone:
            # Another task on the same worker may be the cause.
            waiting.append((one.task, True))
        elif isinstance(result, KilledWorker):
            yield one.task, Failed(_died_of(result))
        elif isinstance(result, Exception):
            yield one.task, Failed(format_error(result))
        else:
            yield one.task, result

    def _give_out(
        self,
        function: Callable[[T], R],
        more: Iterator[T],
        waiting: deque[tuple[T, bool]],
        given: dict[Any, _Given[T]],
        back: queue.SimpleQueue[Future],
    ) -> None:
        """Fill the room that there is; suspects wait until all else is done, and go one by one."""
        room = AHEAD * max(1, self._threads_of_all())
        while len(given) < room and not any(one.alone for one in given.values()):
            for _ in range(len(waiting)):
                if not waiting[0][1]:
                    break
                waiting.rotate(-1)
            if waiting and not waiting[0][1]:
                task, alone = waiting.popleft()
            else:
                try:
                    task, alone = next(more), False
                except StopIteration:
                    if given or not waiting:
                        return
                    task, alone = waiting.popleft()
            assert self._client is not None
            future = self._client.submit(
                function, task, key=f"atomicity-{uuid.uuid4().hex}", pure=False
            )
            given[future.key] = _Given(task, future, alone)
            future.add_done_callback(back.put)

    def _result(self, one: _Given[T], stop: Stop | None) -> Any:
        """Return the result, an exception, or `_Lost`."""
        while True:
            check(stop)
            if one.future.status in _GONE:
                return _Lost()
            try:
                return one.future.result(timeout=POLL_S)
            except TimeoutError:  # whoever held it died: it is being done again
                if self._client is None or self._client.status != "running":
                    return _Lost()
            except (KilledWorker, AtomicityError) as error:
                return error
            except Exception as error:
                lost = one.future.status in _GONE
                return _Lost() if lost else error

    def _threads_of_all(self) -> int:
        """Of the workers at hand; asked every now and then."""
        if time.monotonic() - self._counted_at > _COUNT_S:
            self._n_threads = 0
            with contextlib.suppress(Exception):
                if self._client is not None and self._client.status == "running":
                    self._n_threads = sum(self._client.nthreads().values())
            self._counted_at = time.monotonic()
        return self._n_threads

    def _look_after(
        self,
        given: dict[Any, _Given[T]],
        waiting: deque[tuple[T, bool]],
        stop: Stop | None = None,
    ) -> None:
        """Check scheduler and workers after a time without results."""
        if self._client is None or self._client.status != "running":
            waiting.extend((one.task, one.alone) for one in given.values())
            given.clear()
            self._recover(stop)
            return
        for key, one in list(given.items()):
            if one.future.client is not self._client or one.future.status in _GONE:
                waiting.append((one.task, one.alone))
                del given[key]
        now = time.monotonic()
        if self._threads_of_all():
            self._nobody_since = None
            return
        self._nobody_since = self._nobody_since or now
        waited = now - self._nobody_since
        if waited > self._patience_s:
            raise SchedulerLost(
                f"no worker has come within {self._patience_s:.0f} s",
                advice="Check why the workers do not start; the same command goes on where this "
                "run stopped",
            )
        if waited > 10 and now - self._told_at > 60:
            self._told_at = now
            self._notice(f"waiting for a worker, since {waited:.0f} s")

    def _recover(self, stop: Stop | None = None) -> None:
        """Wait until the scheduler answers again, and give it the model.

        Raises `SchedulerLost` if it does not come back.
        """
        if self._client is not None and self._client.status == "running" and self._answers():
            return
        if self._address is None:
            raise SchedulerLost(
                "the workers of this machine have gone",
                advice="The same command goes on where this run stopped",
            )
        self._notice(
            f"the scheduler at {self._address} does not answer: waiting up to "
            f"{self._patience_s:.0f} s for it"
        )
        with silence_dask_log(), contextlib.suppress(Exception):
            if self._client is not None:
                self._client.close(timeout=2)
        self._client = self._connect(stop)
        self._counted_at = 0.0
        self._send()
        self._notice("the scheduler is back")

    def _answers(self) -> bool:
        try:
            assert self._client is not None
            self._client.nthreads()
        except Exception:
            return False
        return True

    def _take_back(self, given: dict[Any, _Given[T]]) -> None:
        """Cancel tasks whose results are not needed any more."""
        client = self._client
        if client is None or not given:
            return
        with silence_dask_log(), contextlib.suppress(Exception):
            if client.status == "running":
                client.cancel([one.future for one in given.values()], force=True)


class _Lost:
    """A task that the scheduler no longer knows."""


def _died_of(error: KilledWorker) -> str:
    times = error.allowed_failures + 1
    return (
        f"the worker that analysed it died, {times} times: it may need more memory than there is, "
        "or crash a library"
    )
