"""What ``fedcli inspect`` shows of a file, or of two."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.aggregation.encoding_figures import EncodingFigures
from fedcli.cli.render.output import size_of
from fedcli.cli.render.tables import figures_table
from fedcli.formats.metadata import Kind
from fedcli.steps.inspect import Comparison, Inspected, Tensor
from fedcli.text import WITHHELD, printable

_MOST = 1000  # tensors that are printed; --json has all of them
_PLACE = ("kind", "run", "round", "client")
_ORIGIN = ("num_examples", "base", "seed", "weighting", "steps")


def render(file: Inspected) -> list[RenderableType]:
    """Draw the metadata of a file, and its tensors."""
    shard = file.labels is not None
    figures = ["least", "greatest"] if shard else ["norm"]
    if any(tensor.figures.not_finite for tensor in file.tensors):
        figures.append("not finite")
    roles = file.metadata is not None and not shard
    table = figures_table(["tensor", *(["role"] if roles else []), "dtype"], ["shape", *figures])
    for tensor in file.tensors[:_MOST]:
        words = [printable(tensor.name), *([tensor.role or ""] if roles else []), tensor.dtype]
        table.add_row(*map(Text, words), *_cells(tensor, figures))
    more = len(file.tensors) - _MOST
    rest = [f"and {more} more; --json lists all"] if more > 0 else []
    return [_heading(file), "", table, *rest]


def _cells(tensor: Tensor, figures: Sequence[str]) -> list[str]:
    found = tensor.figures
    values = {
        "norm": found.norm,
        "least": found.least,
        "greatest": found.greatest,
        "not finite": found.not_finite or None,
    }
    shown = (values[name] for name in figures)
    return [_shape(tensor), *("" if value is None else f"{value:.6g}" for value in shown)]


def _shape(tensor: Tensor) -> str:
    return printable("×".join(map(str, tensor.shape)) or "()", 40)


def _heading(file: Inspected) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows: list[tuple[str, str]] = [("file", str(file.path)), ("sha256", file.sha256)]
    rows.append(("size", f"{size_of(file.bytes)}, {len(file.tensors)} tensors"))
    if file.metadata is None:
        rows.append(("kind", "safetensors, not written by fedcli"))
    else:
        rows += _facts(file.metadata)
    rows += _encoding(file.encoding)
    if file.norm is not None and file.labels is None:
        rows.append(("norm", f"{file.norm:.6g}, of all parameters"))
    if file.labels is not None:
        rows.append(("labels", " ".join(map(str, file.labels))))
    for name, value in rows:
        table.add_row(name, Text(printable(value), overflow="fold"))
    return table


def _encoding(found: EncodingFigures | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    if found.bits is None:
        why = "tensors are as in the file, because its base model is not in a run around it"
        return [("encoding", f"{found.spec}; {why}")]
    rows = [("encoding", f"{found.spec}, {found.bits:.3g} bits per parameter")]
    if found.norm is not None:
        rows.append(("step", f"norm {found.norm:.6g}, as it was sent"))
    if found.nmse is not None:
        rows.append(("lost", f"NMSE {found.nmse:.3g}, of the step that was to be sent"))
    return rows


def _facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    if metadata["kind"] == Kind.UPDATE:
        metadata = {"num_examples": WITHHELD, **metadata}
    rows = [(key, str(metadata[key])) for key in (*_PLACE, *_ORIGIN) if key in metadata]
    for key in ("updates", "partials"):
        if metadata.get(key):
            hashes = (f"{name} {_short(sha256)}" for name, sha256 in metadata[key].items())
            rows.append((key, ", ".join(hashes)))
    if sha256 := metadata.get("list_sha256"):
        rows.append(("updates", f"listed in aggregate.json, SHA-256 of the list {_short(sha256)}"))
    if training := metadata.get("training"):
        facts = (f"{key} {_short(value)}" for key, value in training.items())
        rows.append(("training", ", ".join(facts)))
    return rows


def _short(value: Any) -> str:
    """Write a value in a few words; a SHA-256 by its first twelve digits."""
    if isinstance(value, Mapping):
        return f"({', '.join(f'{key} {_short(each)}' for key, each in value.items())})"
    text = str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}…" if is_hash else printable(text, 60)


def render_comparison(found: Comparison) -> list[RenderableType]:
    """Draw how two files differ."""
    one, two = found.paths
    lines: list[RenderableType] = [
        Text(printable(f"{'same bytes' if found.same else 'different'}: {one} and {two}"))
    ]
    if found.facts:
        facts = figures_table(["metadata", "first", "second"], [])
        for key, values in found.facts.items():
            shown = ("" if value is None else _short(value) for value in values)
            facts.add_row(*map(Text, (printable(key), *shown)))
        lines += ["", facts]
    for title, names in (
        ("only in the first", found.first_only),
        ("only in the second", found.second_only),
        ("with another shape", found.other_shape),
    ):
        if names:
            lines += ["", Text(printable(f"{title}: {', '.join(names)}"), overflow="fold")]
    lines += ["", *_differences(found)]
    if found.cosine is not None:
        lines.append(f"cosine of the angle between all parameters: {found.cosine:.9g}")
    return lines


def _differences(found: Comparison) -> list[RenderableType]:
    different = [tensor for tensor in found.tensors if tensor.different]
    equal = len(found.tensors) - len(different)
    lines: list[RenderableType] = [f"{equal} of {len(found.tensors)} common tensors are equal"]
    if different:
        table = figures_table(["tensor"], ["different", "of", "by up to", "relative"])
        for tensor in different[:_MOST]:
            figures = (tensor.largest, tensor.relative)
            table.add_row(
                Text(printable(tensor.name)),
                str(tensor.different),
                str(tensor.values),
                *("" if figure is None else f"{figure:.3g}" for figure in figures),
            )
        lines.append(table)
    return lines
