"""What was moved, how far it is, and how long is left to wait."""

import math
import time
from concurrent.futures import CancelledError
from threading import Lock

from fedcli.progress import Progress


class Transfer:
    """Counts files and bytes, and reports them as progress."""

    def __init__(self, verb: str, progress: Progress) -> None:
        self.files: list[str] = []
        self.bytes = 0
        self.is_stopped = False
        self._verb = verb
        self._progress = progress
        self._lock = Lock()  # several threads may move files
        self._said = ""
        self._begun, self._count, self._total = 0, 0, 0
        self._left: int | None = None  # seconds, of those that the bar stands for

    def start(self, count: int, total: int) -> None:
        """Begin to move so many files, of so many bytes together.

        They are added to those that were begun before, if nothing of these has moved yet.
        """
        self._said, self._left = "", None
        if self.bytes > self._begun:
            self._begun, self._count, self._total = self.bytes, 0, 0
        self._count += count
        self._total += total
        self._progress.start(self._label, self._total)

    def _label(self) -> str:
        done = self.bytes - self._begun
        files = "1 file" if self._count == 1 else f"{self._count} files"
        return f"{self._verb} {files}: {done / 1e6:.1f} of {self._total / 1e6:.1f} MB"

    def advance(self, count: int) -> None:
        """Report that ``count`` more bytes were moved; raise ``CancelledError`` after ``stop``."""
        if self.is_stopped:
            raise CancelledError
        with self._lock:
            self.bytes += count
            self._progress.advance(count)

    def stop(self) -> None:
        """Let other threads move nothing more."""
        self.is_stopped = True

    def wait(self, deadline: float) -> None:
        """Report that there is nothing to move yet, and how long is left until a monotonic time."""
        left = math.ceil(max(0.0, deadline - time.monotonic()))
        if self._left is None:
            self._progress.start(
                lambda: f"waiting: {max(0.0, deadline - time.monotonic()):.0f} s left", left
            )
            self._left = left
        self._progress.advance(self._left - left)
        self._left = left

    def say_once(self, line: str) -> None:
        """Report a line, unless it was the last one."""
        if line != self._said:
            self._progress.say(line)
            self._said = line

    def add(self, path: str) -> None:
        """Report that a file is in its place."""
        self.files.append(path)
