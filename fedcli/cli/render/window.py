"""What the commands that make a run say of its window of pixel values."""

from collections.abc import Sequence

from fedcli.datasets.windows import spelled


def window_line(window: Sequence[float] | None) -> list[str]:
    """Return the line that states the window, if the run has one."""
    if window is None:
        return []
    return [
        f"window {spelled(tuple(window))}: these pixel values become 0 and 255, the rest is cut"
    ]
