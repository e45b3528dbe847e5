"""Which axes of an array of pictures are examples, channels, height and width: one rule for all.

An array of three axes is N,H,W. One of four is N,C,H,W or N,H,W,C: the channels are the second or
the last axis, the one that is smaller than each of the other two, and at most 16. Anything else is
refused, unless ``--layout`` says what the axes are.
"""

from collections.abc import Sequence

from fedcli.errors import DataError, UsageError
from fedcli.formats.dtypes import Array

MOST_CHANNELS = 16  # without --layout; more are rather the slices of a volume


def check_layout(layout: str) -> str:
    """Return a layout in capitals. Raises ``UsageError`` unless it names N, H, W, and C at most."""
    letters = layout.upper().replace(",", "")
    if sorted(letters) not in (sorted("NHW"), sorted("NCHW")):
        raise UsageError(
            f"--layout {layout}: expected the letters N, H and W, and C if there are channels, in"
            " the order of the axes, such as NHWC"
        )
    return letters


def axes_of(shape: Sequence[int], layout: str | None, where: str) -> str:
    """Return the axes of an array of pictures, such as "NHWC", by ``layout`` or by the rule.

    Raises ``DataError``, which begins with ``where``.
    """
    if layout is not None:
        return _given(shape, layout, where)
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        raise DataError(
            f"{where}: expected pictures (N,H,W), (N,H,W,C) or (N,C,H,W), found shape"
            f" {list(shape)}",
            hint=_volume_hint(shape),
        )
    _, first, middle, last = shape
    if first < min(middle, last) and first <= MOST_CHANNELS:
        return "NCHW"
    if last < min(first, middle) and last <= MOST_CHANNELS:
        return "NHWC"
    raise _unclear(shape, where)


def _given(shape: Sequence[int], layout: str, where: str) -> str:
    if len(shape) != len(layout):
        raise DataError(
            f"{where}: --layout {layout} names {len(layout)} axes, found shape {list(shape)}"
        )
    return layout


def _unclear(shape: Sequence[int], where: str) -> DataError:
    _, first, middle, last = shape
    if min(first, last) > MOST_CHANNELS or first == middle == last > 4:
        return DataError(
            f"{where}: found shape {list(shape)}, which may be volumes; expected pictures with at"
            f" most {MOST_CHANNELS} channels, (N,H,W,C) or (N,C,H,W)",
            hint=_volume_hint(shape),
        )
    return DataError(
        f"{where}: shape {list(shape)} may be N,H,W,C or N,C,H,W: no axis of channels is smaller"
        " than the others",
        hint="say which it is: --layout NHWC or --layout NCHW",
    )


def _volume_hint(shape: Sequence[int]) -> str:
    if len(shape) < 4:
        return "reshape each example to its height and width"
    return (
        "of volumes, save one slice of each (x[:, x.shape[1] // 2]) as (N,H,W), or say with"
        " --layout NCHW that the slices are channels"
    )


def channels_first(values: Array, axes: str) -> Array:
    """Return a view of pictures as (N, C, H, W)."""
    if "C" not in axes:
        values, axes = values[..., None], f"{axes}C"
    return values.transpose([axes.index(axis) for axis in "NCHW"])


def spelled(axes: str) -> str:
    """Return axes for people: "N,H,W,C"."""
    return ",".join(axes)
