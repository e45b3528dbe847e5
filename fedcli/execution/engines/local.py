"""Steps on this machine."""

from concurrent.futures import Future, ThreadPoolExecutor

from fedcli.execution.engine import Ending, Task, failed, stopped
from fedcli.execution.local import Starter, finish

_MOST = 10_000  # threads, each of which waits for a process; callers have fewer under way


class LocalEngine:
    """Processes of this machine, each as soon as it is submitted."""

    is_here = True

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._waiting = ThreadPoolExecutor(_MOST)

    def connect(self) -> None:
        """See ``Engine``; there is nobody to ask."""

    def submit(self, task: Task) -> Future[Ending]:
        """See ``Engine``."""
        try:
            return self._waiting.submit(finish, self._starter, task.words, task.threads)
        except RuntimeError:  # it was stopped
            return failed(stopped())

    def stop(self) -> None:
        """See ``Engine``; the processes are ended."""
        self._starter.stop()
        self._waiting.shutdown(cancel_futures=True)
