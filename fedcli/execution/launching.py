"""The steps of one call on one run: which engine each goes to, and what it answers."""

import json
import signal
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Self

from fedcli.errors import ClientFailedError, NotReadyError, error_from_json
from fedcli.execution.engine import Ending, Engine, Task, last_line, mapped
from fedcli.execution.visible import missing_after

# What a client or a test set needs a machine for. The other steps read and write small files, and
# stay where the command was typed.
_ON_ENGINE = ("train-client", "evaluate", "unmask")


class Steps:
    """The steps of one call on one run, which end with the ``with`` block.

    Training and scoring go to ``engine``, the others to ``here``, by default the same. Each has
    ``threads`` unless its caller or its command line says otherwise.
    """

    def __init__(
        self,
        run: Path,
        engine: Engine,
        here: Engine | None = None,
        *,
        threads: int | None = None,
        wait: float = 0,
    ) -> None:
        """``wait`` is how long a network file system may hide what the engine has written."""
        self._run = run if engine.is_here else run.absolute()
        self._engine, self._here = engine, here or engine
        self._threads, self._wait = threads, wait

    @property
    def is_here(self) -> bool:
        """Whether training shares this machine."""
        return self._engine.is_here

    def connect(self) -> None:
        """See ``Engine``."""
        self._engine.connect()

    def submit(
        self,
        command: str,
        *arguments: str,
        threads: int | None = None,
        needs: tuple[Path, ...] = (),
    ) -> Future[dict[str, Any]]:
        """Run ``fedcli COMMAND`` and return the future of its JSON object.

        The future raises the ``FedcliError`` that the process reports, ``ClientFailedError`` when
        it ends without a report, or is not started because the others are being stopped, and what
        the engine raises.
        """
        words = ("fedcli", command, "--run", str(self._run), *arguments, "--json", "--quiet")
        engine = self._engine if command in _ON_ENGINE else self._here
        read = tuple(str(path.absolute()) for path in needs)
        return _submit(engine, command, Task(words, threads or self._threads, read))

    def launch(self, command: str, *arguments: str, **others: Any) -> dict[str, Any]:
        """Run ``fedcli COMMAND`` to its end and return its JSON object; see ``submit``."""
        return self.submit(command, *arguments, **others).result()

    def probe(self, device: str) -> dict[str, Any]:
        """Return what ``fedcli.execution.probe`` reports. Raises what ``launch`` does."""
        return _submit(self._engine, "probe", Task(("fedcli.execution.probe", device))).result()

    def see(self, paths: Iterable[Path]) -> None:
        """Wait until files that steps have written are visible here. Raises ``NotReadyError``."""
        if self._engine.is_here:
            return
        if missing := missing_after(paths, self._wait):
            raise NotReadyError(
                f"was written, but is not visible here after {self._wait:g} s",
                hint="the same command continues; --wait SECONDS waits longer",
                path=missing[0],
            )

    def stop(self) -> None:
        """Start no more, and end what can be ended; published files stay."""
        self._engine.stop()
        self._here.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _submit(engine: Engine, name: str, task: Task) -> Future[dict[str, Any]]:
    return mapped(engine.submit(task), partial(_answer, name))


def _answer(name: str, ending: Ending) -> dict[str, Any]:
    try:
        value = json.loads(ending.printed)
    except ValueError:
        raise _without_a_word(name, ending) from None
    if ending.status:
        raise error_from_json(value["error"])
    assert isinstance(value, dict)
    return value


def _without_a_word(name: str, ending: Ending) -> ClientFailedError:
    last = last_line(ending.said) or "it printed nothing"
    hint = None
    if ending.status == -signal.SIGKILL:
        hint = "a system that runs out of memory kills processes: try fewer --jobs"
    ended = f"with status {ending.status}"
    if ending.status < 0:
        ended = f"by {signal_name(-ending.status)}"
    return ClientFailedError(f"{name} ended {ended}: {last}", hint=hint)


def signal_name(number: int) -> str:
    """Return the name of a signal: ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
