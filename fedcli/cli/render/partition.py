"""What ``fedcli partition`` shows of its result, in 80 columns."""

from rich.console import RenderableType

from fedcli.cli.render.label_table import label_table
from fedcli.cli.render.output import size_of
from fedcli.cli.render.start import start_lines
from fedcli.cli.render.window import window_line
from fedcli.datasets.folder_tree import some
from fedcli.steps.partition import Partition

_MOST_GROUPS = 10  # clients whose groups are named


def render(result: Partition) -> list[RenderableType]:
    """Describe the new run, and draw how many examples of each class its clients have."""
    examples = sum(sum(counts) for counts in result.label_counts.values())
    held_out = sum(sum(counts) for counts in result.validation_label_counts.values())
    own_tests = sum(sum(counts) for counts in result.client_test_label_counts.values())
    tests = sum(result.test_label_counts)
    parts = [
        f"{examples} to train",
        *([f"{held_out} held out"] if held_out else []),
        *([f"{tests} to test"] if tests else []),
        *([f"{own_tests} to test at the clients"] if own_tests else []),
    ]
    done = "already done: nothing changed" if result.already_done else "ready"
    return [
        f"{result.run}: {done}",
        f"{result.dataset}, cut by scheme {result.scheme}; model {result.model}",
        f"examples: {', '.join(parts)} ({size_of(result.shard_bytes)})",
        *([f"left out, cannot be decoded: {some(result.skipped)}"] if result.skipped else []),
        *window_line(result.window),
        *start_lines(result),
        *([f"moved to reach --min-size: {result.repaired}"] if result.repaired else []),
        "",
        *label_table(result.label_counts, result.classes),
        "",
        *_groups(result.groups),
        _heterogeneity(result),
        f"for several rounds: {result.all_rounds}",
        f"next: {result.next}",
    ]


def _groups(groups: dict[str, list[str]]) -> list[str]:
    lines = [f"client {client}: {', '.join(names)}" for client, names in groups.items()]
    more = len(lines) - _MOST_GROUPS
    return [*lines[:_MOST_GROUPS], *([f"… and {more} more clients"] if more > 0 else [])]


def _heterogeneity(result: Partition) -> str:
    figures = result.heterogeneity
    return (
        f"labels: Jensen-Shannon distance {figures.jensen_shannon_distance:.3f},"
        f" earth mover's {figures.earth_movers_distance:.3f};"
        f" sizes: Gini {figures.gini_of_sizes:.3f}"
    )
