"""The steps of a run as processes: started side by side, and stopped together."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcli.errors import ClientFailedError, error_from_json

_GRACE = 10.0  # seconds that a process gets to end by itself before it is killed


class Steps:
    """The processes of one call on one run: started here, and stopped here when one fails."""

    def __init__(self, run: Path, environment: Mapping[str, str]) -> None:
        self._run = run
        self._environment = {**os.environ, **environment}
        self._running: set[subprocess.Popen[str]] = set()
        self._stopping = False
        self._lock = threading.Lock()

    def launch(self, command: str, *arguments: str) -> dict[str, Any]:
        """Run ``fedcli COMMAND`` to its end and return its JSON object.

        Raises the ``FedcliError`` that the process reports, and ``ClientFailedError`` when it ends
        without a word, or is not started because the others are being stopped.
        """
        process = self._start(command, *arguments)
        out, err = process.communicate()  # an interrupt leaves it among the running, for stop
        with self._lock:
            self._running.discard(process)
        try:
            value = json.loads(out)
        except ValueError:
            last = err.strip().splitlines()[-1:] or ["it printed nothing"]
            raise ClientFailedError(
                f"{command} ended with status {process.returncode}: {last[0]}"
            ) from None
        if process.returncode:
            raise error_from_json(value["error"])
        assert isinstance(value, dict)
        return value

    def _start(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "fedcli", command, "--run", str(self._run)]
        with self._lock:
            if self._stopping:
                raise ClientFailedError("stopped")
            process = subprocess.Popen(
                [*line, *arguments, "--json", "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment,
                # Ctrl-C in a terminal reaches this process only, which then stops the others.
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def stop(self) -> None:
        """End all processes and start no more; what they had published stays."""
        with self._lock:
            self._stopping = True
            running = [process for process in self._running if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
