"""What ``fedcli init`` shows of its result."""

from rich.console import RenderableType

from fedcli.cli.render.next import next_lines, to_send
from fedcli.cli.render.start import start_lines
from fedcli.cli.render.window import window_line
from fedcli.run import Run
from fedcli.steps.init import InitResult
from fedcli.text import listed


def render(result: InitResult, run: Run) -> list[RenderableType]:
    """Describe the new run, and say what to do next."""
    done = "already done: nothing changed" if result.already_done else "ready"
    channels, height, width = result.shape
    colour = "RGB" if channels == 3 else "grey"
    signed = [
        *([f"updates are signed by: {', '.join(result.members)}"] if result.members else []),
        *([f"global models are signed by {result.coordinator}"] if result.coordinator else []),
    ]
    return [
        f"{result.run}: {done}",
        f"{result.model}; {len(result.classes)} classes: {listed(result.classes)};"
        f" {colour} pictures of {width}×{height}; clients:"
        f" {', '.join(result.clients) or 'any'}",
        *window_line(result.window),
        *signed,
        *start_lines(result),
        "",
        *to_send(run, "the clients", result.send),
        *next_lines(run),
    ]
