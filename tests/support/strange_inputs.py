"""Models, archives, folders and metadata as strangers and users have them, and what came of them.

``SPECIMENS`` are written by hand; ``variations`` draws others from a seed. Each is a folder of
files and the command lines that read them. A command may take what it is given, or refuse it; it
may not fail for a reason that is its own. See ``fault``.
"""

import contextlib
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedcli.cli import execute
from fedcli.formats.metadata import Role
from support.fuzzing import CORPUS, TooLong, with_id
from support.handmade import new_run
from support.mutations import mutate
from support.runs import deliver, tensors

Rng = random.Random
SECONDS = 60  # that a command may take, on a busy machine
_ENDS = {0, 2, 3, 4, 5, 6}
_RUN = ("--limit", "24", "--clients", "2", "--epochs", "1", "--batch-size", "4", "--threads", "1")
_NEW = ("partition", "--limit", "24", "--clients", "2", "--epochs", "1", "--batch-size", "4")
_ROUND = (
    ("train-client", "--id", "all", "--threads", "1"),
    ("aggregate",),
    ("evaluate", "--threads", "1"),
    ("export", "-o", "out.safetensors", "--format", "safetensors"),
)
Line = tuple[str, ...]


@dataclass(frozen=True)
class StrangeInput:
    """Files that ``make`` writes into an empty folder, and the command lines that meet them."""

    kind: str
    name: str
    make: Callable[[Path], None]
    lines: tuple[Line, ...]


# --- models ------------------------------------------------------------------------------------

_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.flat = nn.Flatten()
        self.fc = nn.Linear(3 * 32 * 32, num_classes)
{init}

    def forward(self, x):
        x = self.flat(x)
{forward}
        return self.fc(x)
{more}

def net(num_classes):
{factory}
    return Net(num_classes)
"""
# What people write in a model, by the place in which they write it.
_QUIRKS: dict[str, tuple[str, str]] = {
    "raises": ("forward", "raise ValueError('x must be\\n\\x1b[2J 4-dimensional')"),
    "raises in training": ("forward", "assert not self.training, 'training'"),
    "raises in evaluation": ("forward", "assert self.training, 'evaluation'"),
    "raises later": (
        "forward",
        "self.calls = getattr(self, 'calls', 0) + 1; assert self.calls < 4, self.calls",
    ),
    "exits": ("forward", "raise SystemExit(3)"),
    "exits in the factory": ("factory", "raise SystemExit(0)"),
    "no such key": ("factory", "{}['classes']"),
    "returns nothing": ("factory", "return None"),
    "returns a class": ("factory", "return Net"),
    "returns a function": ("factory", "return lambda x: x"),
    "an empty model": ("factory", "return nn.Identity()"),
    "recursion": ("forward", "return self.forward(x)"),
    "tuple": ("forward", "return self.fc(x), x"),
    "tuple in training": ("forward", "\n        if self.training: return self.fc(x), x"),
    "dict": ("forward", "return {'logits': self.fc(x)}"),
    "none": ("forward", "return None"),
    "too few classes": ("forward", "return self.fc(x)[:, :1]"),
    "too many classes": ("forward", "return torch.cat([self.fc(x)] * 2, 1)"),
    "no batch": ("forward", "return self.fc(x).mean(0)"),
    "half the batch": ("forward", "return self.fc(x)[: max(1, len(x) // 2)]"),
    "integers": ("forward", "return self.fc(x).argmax(1)"),
    "no gradient": ("forward", "return self.fc(x).detach()"),
    "complex": ("forward", "return self.fc(x).to(torch.complex64)"),
    "not finite": ("forward", "return self.fc(x) / 0"),
    "float64": ("init", "self.double()"),
    "float64 output": ("forward", "return self.fc(x).double()"),
    "half": ("init", "self.fc.half()"),
    "lazy": ("init", "self.fc = nn.LazyLinear(num_classes)"),
    "empty parameter": ("init", "self.none = nn.Parameter(torch.zeros(0, 3))"),
    "scalar parameter": ("init", "self.scale = nn.Parameter(torch.tensor(1.0))"),
    "integer parameter": (
        "init",
        "self.n = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)",
    ),
    "complex parameter": ("init", "self.c = nn.Parameter(torch.zeros(2, dtype=torch.complex64))"),
    "complex buffer": ("init", "self.register_buffer('c', torch.zeros(2, dtype=torch.cfloat))"),
    "odd buffer": ("init", "self.register_buffer('b\\x1b[2J', torch.zeros(2))"),
    "buffer with a slash": ("init", "self.register_buffer('control/fc', torch.zeros(2))"),
    "buffer of bools": ("init", "self.register_buffer('mask', torch.ones(3, dtype=torch.bool))"),
    "infinite buffer": ("init", "self.register_buffer('inf', torch.full((2,), float('inf')))"),
    "NaN parameter": ("init", "self.n = nn.Parameter(torch.full((2,), float('nan')))"),
    "sparse buffer": ("init", "self.register_buffer('s', torch.eye(3).to_sparse())"),
    "meta parameter": ("init", "self.m = nn.Parameter(torch.empty(2, device='meta'))"),
    "quantised buffer": (
        "init",
        "self.register_buffer('q', torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8))",
    ),
    "tied": ("init", "self.other = self.fc"),
    "frozen": ("init", "self.requires_grad_(False)"),
    "buffer made in forward": (
        "forward",
        "\n        if not hasattr(self, 'late'): self.register_buffer('late', torch.zeros(1))",
    ),
    "buffer resized in forward": (
        "forward",
        "self.fc.register_buffer('seen', torch.zeros(len(x)))",
    ),
    "parameter made in forward": ("forward", "self.extra = nn.Parameter(torch.zeros(1))"),
    "extra state": ("more", "    def get_extra_state(self): return {'a': 1}"),
    "strange state": ("more", "    def state_dict(self, *a, **k): return {1: 'x'}"),
    "state that raises": ("more", "    def state_dict(self, *a, **k): raise KeyError('state')"),
    "train that raises": ("more", "    def train(self, mode=True): raise RuntimeError('no')"),
    "weight norm": ("init", "self.fc = nn.utils.weight_norm(self.fc)"),
    "spectral norm": ("init", "self.fc = nn.utils.parametrizations.spectral_norm(self.fc)"),
    "batch norm": ("init", "self.flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3072))"),
    "warns": ("forward", "import warnings; warnings.warn('old\\x1b[2J API', stacklevel=1)"),
    "random in the factory": ("factory", "import random; num_classes += random.randrange(2)"),
    "syntax": ("more", "def ("),
    "missing import": ("more", "import no_such_module"),
    "no such name": ("more", "del Net"),
    "hook that raises": (
        "init",
        "self.fc.register_forward_hook(lambda *a: (_ for _ in ()).throw(ValueError('hook')))",
    ),
    "gradient hook that raises": (
        "init",
        "self.fc.weight.register_hook(lambda g: (_ for _ in ()).throw(ValueError('gradient')))",
    ),
    "cannot be copied": (
        "more",
        "    def __deepcopy__(self, memo): raise TypeError('cannot pickle lock')",
    ),
    "out of memory": ("forward", "torch.empty(2**50)"),
    "memory error": ("forward", "raise MemoryError"),
    "OS error": ("forward", "open('/no/such/file')"),
    "keyword input": ("forward", "return self.fc(input=x)"),
}
_OPTIONS: tuple[Line, ...] = (
    *((), (), (), ("--algorithm", "scaffold"), ("--algorithm", "ditto"), ("--algorithm", "moon")),
    *(("--algorithm", "feddyn"), ("--algorithm", "fednova"), ("--algorithm", "fedbn")),
    *(("--strategy", "fedadam"), ("--local-layers", "fc"), ("--optimizer", "adamw")),
)


def _model(name: str, quirks: tuple[str, ...], options: Line = ()) -> StrangeInput:
    module = "strange_" + re.sub(r"\W", "_", f"{name}_{'_'.join(options)}")

    def make(folder: Path) -> None:
        places = {"init": "", "forward": "", "more": "", "factory": ""}
        for quirk in quirks:
            place, code = _QUIRKS[quirk]
            indent = {"init": 8, "forward": 8, "more": 0, "factory": 4}[place]
            places[place] += f"{' ' * indent}{code}\n"
        (folder / f"{module}.py").write_text(_MODULE.format(**places))

    first = (*_NEW, "--model", f"{module}:net", *options)
    lines = (first, *((*line, *_own(line, module)) for line in _ROUND))
    return StrangeInput("model", f"{name} {' '.join(options)}".strip(), make, lines)


def _own(line: Line, module: str) -> Line:
    return ("--model", f"{module}:net") if line[0] in ("train-client", "evaluate") else ()


def _drawn_model(rng: Rng, number: int) -> StrangeInput:
    quirks = tuple(rng.sample(sorted(_QUIRKS), rng.choice((1, 2, 2, 3))))
    return _model(f"{number} {' and '.join(quirks)}", quirks, rng.choice(_OPTIONS))


# --- archives ----------------------------------------------------------------------------------

_DATA_LINES: tuple[Line, ...] = (
    ("partition", "--dataset", "npz:data.npz", *_RUN[2:-2], "--model", "linear"),
    *_ROUND[:3],
)
_WEIGHTS_LINES: tuple[Line, ...] = tuple(
    (*_NEW, "--model", "linear", "--init-from", name, "--run", name[0])
    for name in ("weights.pth", "weights.safetensors")
)


def _arrays(name: str, arrays: Callable[[], dict[str, Any]]) -> StrangeInput:
    def make(folder: Path) -> None:
        np.savez(folder / "data.npz", **arrays())

    return StrangeInput("archive", name, make, _DATA_LINES)


def _pictures(rng: Rng, count: int, dtype: Any = np.uint8) -> Any:
    shape = rng.choice(
        [
            *((count, 8, 8), (count, 8, 8, 3), (count, 3, 8, 8), (count, 1, 8, 8), (count, 8)),
            *((count, 5, 8, 8), (count, 8, 8, 8), (count, 2, 3, 4, 5), (count,), (0, 8, 8)),
            *((count, 0, 8), (count, 1, 1), (count, 1, 3000), ()),
        ]
    )
    values = np.random.default_rng(rng.getrandbits(32)).random(shape) * rng.choice((1, 255, 1e30))
    if rng.random() < 0.1 and values.size:
        values.reshape(-1)[0] = rng.choice((np.nan, np.inf, -np.inf))
    with np.errstate(all="ignore"):
        return values.astype(dtype)


_DTYPES = (*("u1", "u1", "u1", "f4", "f8", "f2", "i2", "u2", "i4", "i8", "?", "c8"), ">f4", ">u2")


def _labels(rng: Rng, count: int) -> Any:
    generator = np.random.default_rng(rng.getrandbits(32))
    plain = generator.integers(0, 3, count)
    return rng.choice(
        [
            *(plain, plain, plain, plain + 1, plain - 1, plain * 1000, plain.astype(float)),
            *(plain + 0.5, plain.astype(str), plain[:-1], plain.reshape(-1, 1), np.eye(3)[plain]),
            *(np.zeros(count, int), plain.astype(bool), plain.astype("u8") + 2**63),
            *(np.full(count, np.nan), np.array(5), plain.astype(object), plain.astype("c8")),
        ]
    )


def _drawn_arrays(rng: Rng, number: int) -> StrangeInput:
    seed = rng.getrandbits(32)

    def arrays() -> dict[str, Any]:
        own = Rng(seed)
        count = own.choice((0, 1, 2, 12, 12, 12, 12))
        names = own.choice(
            [("x", "y")] * 4
            + [("train_images", "train_labels"), ("X", "Y"), ("images", "labels"), ("a\x1b", "b")]
        )
        return {
            names[0]: _pictures(own, count, own.choice(_DTYPES)),
            names[1]: _labels(own, count),
            **({"group": _labels(own, count)} if own.random() < 0.2 else {}),
        }

    return _arrays(f"arrays {number}", arrays)


def _good_archive() -> bytes:
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(file, x=x, y=np.arange(12) % 3)
    return file.getvalue()


def _drawn_archive(rng: Rng, number: int) -> StrangeInput:
    seed = rng.getrandbits(32)

    def make(folder: Path) -> None:
        data = _good_archive()
        (folder / "data.npz").write_bytes(mutate(Rng(seed), data, [data]))

    return StrangeInput("archive", f"mutated archive {number}", make, _DATA_LINES)


def _bytes(name: str, data: bytes, lines: tuple[Line, ...], *files: str) -> StrangeInput:
    def make(folder: Path) -> None:
        for file in files:
            (folder / file).write_bytes(data)

    return StrangeInput("archive", name, make, lines)


def _zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return file.getvalue()


def _npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


_HEADERS = {
    "negative shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8)}",
    "huge shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999, 8, 8)}",
    "no shape": "{'descr': '|u1', 'fortran_order': False}",
    "shape of text": "{'descr': '|u1', 'fortran_order': False, 'shape': 'abc'}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
    "fields": "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (2,)}",
    "dates": "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (0, 8, 8)}",
    "no header": "\x00\x01",
    "bools of shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 8, 8)}",
    "huge dimension": f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**70}, 0)}}",
}
_FILES = {
    "nothing": b"",
    "html": b"<!DOCTYPE html><html><body>404 \x1b[2J</body></html>",
    "text": "Größe;Klasse\n1;2\n".encode(),
    "zeros": bytes(5000),
    "an empty zip": _zipped(),
    "a zip of text": _zipped(a__txt=b"hello"),
    "half a zip": _good_archive()[:700],
    "a gzip": b"\x1f\x8b\x08\x00" + bytes(30),
    "a pickle": pickle.dumps({"x": [1, 2, 3]}),
    "a pickle of code": b"cos\nsystem\n(S'echo \x1b[2J'\ntR.",
    "a pickle with integer keys": pickle.dumps({0: 1.0, 1: 2.0}),
    "a header that is too long": (2**40).to_bytes(8, "little") + b"{}",
    "an empty header": (2).to_bytes(8, "little") + b"{}",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
}


def _torch_file(name: str, value: Callable[[Any], Any]) -> StrangeInput:
    def make(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        torch.save(value(torch), folder / "weights.pth")
        with contextlib.suppress(Exception):
            save_file(value(torch), folder / "weights.safetensors")

    return StrangeInput("archive", f"weights: {name}", make, _WEIGHTS_LINES)


_WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "a list": lambda torch: [torch.zeros(2)],
    "a tensor": lambda torch: torch.zeros(2),
    "a number": lambda torch: 5,
    "None": lambda torch: None,
    "other names": lambda torch: {"a.b\x1b": torch.zeros(2)},
    "an empty dict": lambda torch: {},
    "integer keys": lambda torch: {0: torch.zeros(2), 1: torch.zeros(2)},
    "quantised": lambda torch: {"fc.weight": torch.zeros(10, 3072, dtype=torch.int8)},
    "no tensors": lambda torch: {"state_dict": {"fc.weight": "x"}},
    "itself": lambda torch: _nested(torch),
    "NaN": lambda torch: {"fc.weight": torch.full((10, 3072), float("nan"))},
    "other shape": lambda torch: {"fc.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(10)},
    "complex": lambda torch: {"fc.weight": torch.zeros(10, 3072, dtype=torch.cfloat)},
    "sparse": lambda torch: {"fc.weight": torch.eye(10).to_sparse()},
    "huge by strides": lambda torch: {"fc.weight": torch.zeros(1).expand(10, 3072)},
    "deep": lambda torch: {"model": {"model": {"model": {"fc.weight": torch.zeros(1)}}}},
    "an optimizer": lambda torch: {"optimizer": {"state": {}}, "epoch": 3},
}


def _nested(torch: Any) -> Any:
    value: dict[str, Any] = {"w": torch.zeros(1)}
    value["model"] = value
    return value


# --- folders -----------------------------------------------------------------------------------


def _png(rng: Rng) -> bytes:
    mode = rng.choice(("L", "RGB", "RGB", "RGBA", "P", "1", "LA", "I;16", "I", "F", "CMYK"))
    size = rng.choice(((8, 8), (8, 8), (9, 7), (1, 1), (1, 300)))
    kind = {"F": "TIFF", "I": "TIFF", "CMYK": "JPEG"}.get(mode, "PNG")
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def _entry(rng: Rng, path: Path) -> None:
    """Put something into a folder of a class."""
    data = _png(rng)
    what = rng.randrange(14)
    if what < 7:
        path.with_suffix(".png").write_bytes(data)
    elif what == 7:
        path.with_suffix(".jpg").write_bytes(data[: len(data) // 2])
    elif what == 8:
        path.with_suffix(".png").write_bytes(mutate(rng, data, [data]))
    elif what == 9:
        path.with_suffix(rng.choice((".txt", ".csv", ".dcm", ".db"))).write_bytes(b"a,b\n1,2\n")
    elif what == 10:
        path.with_suffix(".png").symlink_to(rng.choice(("..", "nothing", path.name)))
    elif what == 11:
        path.with_suffix(".png").mkdir()
    elif what == 12:
        os.mkfifo(path.with_suffix(".png"))
    else:
        path.with_suffix(".png").write_bytes(rng.choice(list(_FILES.values())))


_CLASSES = (
    *("cat", "dog", "ant", "train", "test", "Training", "Testing", "val", "images", ".hidden"),
    *("@eaDir", "__MACOSX", "1", "2", "10", "-x", "=1+1", "a\x1b[2J", "Größe", "b\udcff", "a b"),
)


def _drawn_folder(rng: Rng, number: int) -> StrangeInput:
    seed = rng.getrandbits(32)

    def make(folder: Path) -> None:
        own = Rng(seed)
        root = folder / "data"
        root.mkdir()
        for name in own.sample(_CLASSES, own.choice((0, 1, 2, 2, 3, 3, 4))):
            place = root / name
            place.mkdir()
            if own.random() < 0.2:
                place = place / own.choice(_CLASSES)
                place.mkdir()
            for entry in range(own.choice((0, 1, 6, 6, 9))):
                _entry(own, place / str(entry))
        if own.random() < 0.15:
            (root / "loop").symlink_to(root)

    options = rng.choice(((), (), ("--image-size", "8"), ("--group", "folder")))
    return StrangeInput("folder", f"folder {number}", make, _folder_lines(options))


def _folder_lines(options: Line = ("--image-size", "8")) -> tuple[Line, ...]:
    common = (*_RUN[2:-2], "--model", "linear")
    return (
        ("partition", "--dataset", "imagefolder:data", *common, *options),
        ("train-client", "--id", "all", "--threads", "1"),
        ("aggregate",),
        ("evaluate", "--threads", "1", "--data", "data"),
    )


def _tree(name: str, *paths: str) -> StrangeInput:
    """A folder with pictures at these paths; those that end in a slash are folders."""

    def make(folder: Path) -> None:
        (folder / "data").mkdir()
        for number, path in enumerate(paths):
            place = folder / "data" / path
            if path.endswith("/"):
                place.mkdir(parents=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 9 * number % 256, 0)).save(place)

    return StrangeInput("folder", name, make, _folder_lines())


def _many(*classes: str) -> tuple[str, ...]:
    return tuple(f"{name}/{number}.png" for name in classes for number in range(6))


def _no_files(folder: Path) -> None:
    """Pictures by their names that are a pipe, a broken link, a link to itself, and a folder."""
    for name in ("a", "b"):
        place = folder / "data" / name
        place.mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), number).save(place / f"{number}.png")
        os.mkfifo(place / "pipe.png")
        (place / "gone.png").symlink_to("nothing.png")
        (place / "itself.png").symlink_to("itself.png")
        (place / "folder.png").mkdir()


# --- metadata ----------------------------------------------------------------------------------

_LOOKS: tuple[Line, ...] = (
    *(("status",), ("report",), ("report", "--csv", "-"), ("report", "--json"), ("verify",)),
    *(("aggregate", "--round", "1"), ("evaluate", "--threads", "1"), ("gc", "--keep-last", "1")),
    *(("inspect", "fedrun/rounds/0001/global.safetensors"), ("train-client", "--id", "0")),
    *(("train-client", "--id", "0", "--round", "2", "--threads", "1"), ("aggregate", "--force")),
)
_MUTATED = (
    *("run.json", "rounds/0001/aggregate.json", "rounds/0001/evaluation.json"),
    *("rounds/0001/updates/0.json", "data/partition.json", "rounds/0001/global.safetensors"),
    *("rounds/0001/server_state.safetensors", "data/client-0.safetensors"),
    *("rounds/0001/updates/mercy-hospital.safetensors", "rounds/0000/global.safetensors"),
    *("rounds/0001/client_state/0.safetensors", "rounds/0002/training/0.json"),
)


def _changed_run(name: str, file: str, change: Callable[[bytes], bytes]) -> StrangeInput:
    def make(folder: Path) -> None:
        shutil.copytree(CORPUS, folder / "fedrun")
        path = folder / "fedrun" / file
        path.write_bytes(change(path.read_bytes()))

    return StrangeInput("metadata", name, make, _LOOKS)


def _drawn_metadata(rng: Rng, number: int) -> StrangeInput:
    file, seed = rng.choice(_MUTATED), rng.getrandbits(32)

    def change(data: bytes) -> bytes:
        own = Rng(seed)
        new = mutate(own, data, [data])
        return with_id(new) if file == "run.json" and own.random() < 0.8 else new

    return _changed_run(f"{file} {number}", file, change)


def _with(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return with_id(json.dumps({**json.loads(data), **values}).encode())

    return change


# --- claims ------------------------------------------------------------------------------------

_CLAIMS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "examples": lambda rng: {"num_examples": rng.choice((0, 1, 10**9, 10**9 + 1, 2**62))},
    "steps": lambda rng: {"training": {"steps": rng.choice((0, -1, 10**6, 2**62, 1.5, "9", None))}},
    "momentum": lambda rng: {
        "training": {"momentum": rng.choice((0, 1, 2, -1, 1e308, "x", [1])), "steps": 3}
    },
    "rate": lambda rng: {"training": {"lr": rng.choice((0, -1, 1e-300, 1e308, "x")), "steps": 3}},
    "loss": lambda rng: {"training": {"initial_loss": rng.choice((0, -1, 1e308, "x", None))}},
    "epochs": lambda rng: {"training": {"epochs": rng.choice((0, -1, 10**12, "x", 0.5))}},
    "withheld": lambda rng: {
        "training": {rng.choice(("freeze", "local_layers")): rng.choice((["fc"], ["*"], ["!"], 1))}
    },
    "alpha": lambda rng: {"training": {"feddyn_alpha": rng.choice((0, -1, 1e308, "x"))}},
    "round": lambda rng: {"round": rng.choice((0, 1, 2, 2**62))},
    "roles": lambda rng: {"roles": {rng.choice(("fc.bias", "no")): rng.choice(list(Role))}},
    "base": lambda rng: {"base": rng.choice(("", "0" * 64, "x" * 10_000))},
}
_STRATEGIES = (
    *("fedavg", "fednova", "krum", "median", "rfa", "feddyn", "q-fedavg", "fedadam", "scaffold"),
    *("trimmed-mean", "centered-clipping", "foolsgold", "multi-krum", "bulyan", "clipped-mean"),
)


def _shifted(rng: Rng, values: dict[str, Any]) -> dict[str, Any]:
    """Put something into one tensor that training would not."""
    name = rng.choice(sorted(values))
    array = np.array(values[name])
    if array.dtype.kind == "f":
        array[...] = rng.choice((0.0, 1e30, -1e30, 3e38, float("nan"), float("inf")))
    else:
        array[...] = rng.choice((0, -1, 2**62, 2**63 - 1, -(2**63)))
    return {**values, name: array}


def _drawn_claim(rng: Rng, number: int) -> StrangeInput:
    claim, seed = rng.choice(sorted(_CLAIMS)), rng.getrandbits(32)
    strategies = rng.sample(_STRATEGIES, 3)

    def make(folder: Path) -> None:
        own = Rng(seed)
        run = new_run(folder / "fedrun", tensors(0), tuple("0123456"))
        for client in "0123456":
            strange = client == "6" or own.random() < 0.1
            values = tensors(int(client) + 1)
            values = _shifted(own, values) if strange and own.random() < 0.5 else values
            deliver(run, client, values, **(_CLAIMS[claim](own) if strange else {}))

    lines = (
        ("status",),
        *(("aggregate", "--round", "1", "--strategy", s, "--force") for s in strategies),
        *(("aggregate", "--round", "1", "--min-clients", "3", "--force"), ("report",)),
        *(("verify",), ("inspect", "fedrun/rounds/0001/updates/6.safetensors")),
    )
    return StrangeInput("claim", f"{claim} {number}", make, lines)


# --- all of them -------------------------------------------------------------------------------

_MANIFEST, _TELEMETRY = "rounds/0001/aggregate.json", "rounds/0001/updates/0.json"
SPECIMENS: tuple[StrangeInput, ...] = (
    *(_model(name, (name,)) for name in _QUIRKS),
    _model("keyword input", ("keyword input",), ("--algorithm", "moon")),
    _model("weight norm", ("weight norm",), ("--algorithm", "ditto")),
    _model("tied", ("tied",), ("--local-layers", "other")),
    *(
        _bytes(
            f"npz: {name}",
            _zipped(x__npy=_npy(header), y__npy=_npy(header)),
            _DATA_LINES[:1],
            "data.npz",
        )
        for name, header in _HEADERS.items()
    ),
    *(_bytes(f"npz: {name}", data, _DATA_LINES[:1], "data.npz") for name, data in _FILES.items()),
    *(
        _bytes(f"weights: {name}", data, _WEIGHTS_LINES, "weights.pth", "weights.safetensors")
        for name, data in _FILES.items()
        if data
    ),
    *(_torch_file(name, value) for name, value in _WEIGHTS.items()),
    _arrays("no arrays", dict),
    _tree("nothing"),
    _tree("one class", *_many("images")),
    _tree("an empty class", *_many("a", "b"), "c/"),
    _tree("parts with capitals", *_many("Training/a", "Training/b", "Testing/a", "Testing/b")),
    _tree("parts with other classes", *_many("train/a", "train/b", "test/c", "test/d")),
    _tree("thumbnails", *_many("a", "b", "@eaDir", ".thumbnails", "a/@eaDir")),
    _tree("names that drive terminals", *_many("a\x1b[2J", "b\n", "=1+1")),
    _tree("names that are not UTF-8", *_many("a\udcff", "b\udcfe")),
    _tree("pictures without a class", "1.png", "2.png"),
    _tree("empty classes", "a/", "b/"),
    StrangeInput("folder", "pictures that are no files", _no_files, _folder_lines()),
    _changed_run("empty telemetry", _TELEMETRY, lambda _: b"{}"),
    _changed_run("an unknown model", "run.json", _with(model={"name": "resnet\x1b19"})),
    _changed_run("a model of one's own", "run.json", _with(model={"name": "os:system"})),
    _changed_run("no clients", "run.json", _with(clients=[])),
    _changed_run("devices as clients", "run.json", _with(clients=["con", "nul"])),
    _changed_run("two cases", "run.json", _with(clients=["Bob", "bob"])),
    _changed_run("odd classes", "run.json", _with(dataset={"name": "x", "classes": []})),
    _changed_run("a surrogate", "run.json", lambda _: b'{"format": 1, "id": "\\ud800"}'),
    _changed_run("accepted as text", _MANIFEST, _with(accepted="alice")),
    _changed_run("no manifest", _MANIFEST, lambda _: b""),
)
_DRAWN: tuple[Callable[[Rng, int], StrangeInput], ...] = (
    *(_drawn_model, _drawn_arrays, _drawn_archive, _drawn_folder, _drawn_metadata),
    *(_drawn_model, _drawn_arrays, _drawn_folder, _drawn_metadata, _drawn_claim),
)


def variations(count: int, seed: int = 0) -> list[StrangeInput]:
    """Draw inputs of all kinds in turn."""
    return [
        _DRAWN[number % len(_DRAWN)](Rng(f"{seed}/{number}"), number) for number in range(count)
    ]


# --- what came of them -------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    """What the folder holds; what a training that was left off keeps is not counted."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    names = ((os.fsencode(path.relative_to(folder)).decode("latin-1"), path) for path in paths)
    ignored = re.compile(r"/training/|__pycache__")
    return {name: path.read_bytes() for name, path in names if not ignored.search(name)}


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def alarm(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ended(line: Line) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _time_limit():
        try:
            status = execute(list(line))
        except SystemExit as error:
            return -1, out.getvalue(), f"the process was ended: {error.code}"
    return status, out.getvalue(), err.getvalue()


def fault(line: Line, folder: Path) -> tuple[int, str | None]:
    """Run a command in ``folder``; return its status, and what it should not have done, if any."""
    before = _files(folder)
    status, out, err = _ended(line)
    errors = [text for text in err.splitlines() if text.startswith("error: ")]
    raw = [c for c in (out + err).replace("\n", "") if not c.isprintable()]
    diverged = status == 1 and ("diverged" in err or "finite" in err)
    for wrong, what in (
        (status not in _ENDS and not diverged, f"status {status}"),
        ("Traceback" in err or "mistake in fedcli" in err, "an internal error"),
        (bool(raw), f"raw characters {raw[:3]}"),
        (status != 0 and len(errors) != 1 and "--json" not in line, f"{len(errors)} errors"),
        (status != 0 and line[0] != "train-client" and _files(folder) != before, "files changed"),
    ):
        if wrong:
            return status, f"{' '.join(line)}: {what}: {err[-500:]!r}"
    return status, None


def faults(strange: StrangeInput, folder: Path) -> list[str]:
    """Meet an input in an empty folder; return what went wrong.

    The commands of a session end with the first that refuses; those that look at a run all run.
    """
    strange.make(folder)
    found, here = [], Path.cwd()
    os.chdir(folder)
    try:
        for line in strange.lines:
            status, wrong = fault(line, folder)
            found += [wrong] if wrong else []
            looks = strange.lines in (_LOOKS, _WEIGHTS_LINES) or strange.kind == "claim"
            if status != 0 and not looks:
                break
    finally:
        os.chdir(here)
        sys.path[:] = [place for place in sys.path if place != str(folder)]
    return found
