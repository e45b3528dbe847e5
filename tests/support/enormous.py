"""Files that are made to take memory or time, and a program that reads them.

``python -m support.enormous FILE ...``, run in ``tests/``, reads each as what its name says, in a
process of its own, and prints a line of JSON about it: what became of it, and the most memory that
its process had.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from support.fuzzing import peak_memory

_OWN = {"format": 1, "kind": "global", "run": "f" * 64}
_LIMIT = 16_000_000  # bytes of a header


def metadata(**more: object) -> str:
    """Metadata of ours, as it stands in a header."""
    return '"__metadata__":' + json.dumps({"fedcli": json.dumps({**_OWN, **more})})


def header(*entries: str) -> bytes:
    text = f"{{{','.join([metadata(), *entries])}}}".encode()
    return len(text).to_bytes(8, "little") + text


def tensors(count: int) -> bytes:
    empty = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return header(*(f'"{number}":{empty}' for number in range(count)))


def shape(sizes: str) -> bytes:
    return header(f'"a":{{"dtype":"U8","shape":[{sizes}],"data_offsets":[0,0]}}')


def named(count: int, **more: object) -> bytes:
    text = f"{{{metadata(**more)}}}".encode()
    return len(text).to_bytes(8, "little") + text


def repeated(item: str, size: int = _LIMIT) -> str:
    return item * ((size - 200) // len(item.encode()))


def manifest(text: str) -> bytes:
    return f'{{"options":{text}}}'.encode()


FILES: dict[str, Callable[[], bytes]] = {
    "million-tensors.safetensors": lambda: tensors(1_000_000),
    "tensors-to-the-limit.safetensors": lambda: tensors(250_000),
    "many-tensors.safetensors": lambda: tensors(50_000),
    "long-shape.safetensors": lambda: shape(repeated("9223372036854775807,") + "1"),
    "million-long-shape.safetensors": lambda: shape("1," * 1_000_000 + "1"),
    "large-numbers-in-shape.safetensors": lambda: shape(repeated("9" * 4000 + ",") + "1"),
    "lists.safetensors": lambda: header('"a":[' + repeated("[],") + "0]"),
    "lists-below-a-megabyte.safetensors": lambda: header('"a":[' + repeated("[],", 999_000) + "0]"),
    "objects.safetensors": lambda: header('"a":[' + repeated('{"a":999},') + "0]"),
    "deep.safetensors": lambda: header('"a":' + repeated("[")),
    "deep-metadata.safetensors": lambda: named(0, training={"a": json.loads("[" * 90 + "]" * 90)}),
    "long-name.safetensors": lambda: header(f'"{repeated("a")}":0'),
    "wide-name.safetensors": lambda: header(f'"{repeated("a")}\U0001f600":0'),
    "escaped-name.safetensors": lambda: header(f'"{repeated("a")}\\ud83d\\ude00":0'),
    "half-a-pair.safetensors": lambda: header(f'"{repeated("a")}\\ud83d":0'),
    "long-key.safetensors": lambda: header(f'"a":{{"dtype":"{repeated("F")}"}}'),
    "many-updates.safetensors": lambda: named(
        0, updates={str(number): "f" * 64 for number in range(100_000)}
    ),
    "many-roles.safetensors": lambda: named(
        0, roles={str(number): "buffer" for number in range(100_000)}
    ),
    "many-patterns.safetensors": lambda: named(0, training={"freeze": ["*a" * 5] * 300_000}),
    "numbers.json": lambda: manifest(f"[{repeated('999,', 31_000_000)}0]"),
    "lists.json": lambda: manifest(f"[{repeated('[],', 31_000_000)}0]"),
    "names.json": lambda: manifest(
        "{" + ",".join(f'"{number}":{number}' for number in range(3_000_000)) + "}"
    ),
    "long.json": lambda: manifest(f'"{repeated("a", 31_000_000)}"'),
    "wide.json": lambda: manifest(f'"{repeated("a", 30_000_000)}\U0001f600"'),
    "gigabytes.json": lambda: b"",
}
HOLES = {"gigabytes.json": 2**33}  # bytes of files that have none of them


def write(directory: Path) -> list[Path]:
    """Write all files."""
    paths = []
    for name, make in FILES.items():
        path = directory / name
        path.write_bytes(make())
        if name in HOLES:
            with path.open("r+b") as file:
                file.truncate(HOLES[name])
        paths.append(path)
    return paths


def read(path: Path) -> str:
    """Say what becomes of a file when it is read."""
    try:
        if path.suffix == ".json":
            Manifest.read(path)
        else:
            with Checkpoint(path) as found:
                found.tensors()
    except FedcliError as error:
        return error.message
    return "taken"


if __name__ == "__main__":
    for word in sys.argv[1:]:
        if (child := os.fork()) == 0:  # the heap would keep gaps from files before
            said = read(Path(word))
            found = {"name": Path(word).name, "said": said, "memory": peak_memory()}
            print(json.dumps(found), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{word}: the process that read it ended")
