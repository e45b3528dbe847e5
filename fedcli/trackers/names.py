"""What values are called in a tracker, in characters that all of them take."""

import re

from fedcli.reporting.measurements import Measurement

_UNSAFE = re.compile(r"[^\w .:-]")  # MLflow takes no other characters
_LONGEST = 60  # characters of each part of a name; MLflow takes 250 of a whole one


class Names:
    """Names that differ from each other wherever what is measured does."""

    def __init__(self) -> None:
        self._names: dict[tuple[str | None, ...], str] = {}
        self._taken: set[str] = set()

    def of(self, one: Measurement) -> str:
        """Return ``subject/measure``, with the client and the class after it if there are any."""
        key = (one.subject, one.measure, one.client, one.class_name)
        if key not in self._names:
            self._names[key] = self._free(_name(one))
            self._taken.add(self._names[key].casefold())
        return self._names[key]

    def _free(self, name: str) -> str:
        """Return a name, with a number after it if it is taken, in any case."""
        number, found = 1, name
        while found.casefold() in self._taken:
            number += 1
            found = f"{name} {number}"
        return found


def _name(one: Measurement) -> str:
    subject = one.subject.removeprefix("global on ")
    if one.class_name is not None:
        # apart from the values of all classes, which trackers would otherwise show among these
        subject = f"{safe(subject)} by class"
    parts = (subject, one.measure, one.client, one.class_name)
    return "/".join(safe(part) for part in parts if part is not None)


def safe(text: str) -> str:
    """Return text as a part of a name, or as the name of a folder."""
    return _UNSAFE.sub("_", text)[:_LONGEST].strip(" .") or "_"
