"""What ``fedcli status`` shows of a run."""

from rich.console import RenderableType
from rich.table import Table

from fedcli.cli.render.next import next_of
from fedcli.cli.render.output import size_of
from fedcli.cli.render.tables import figures_table
from fedcli.execution.pace import in_words
from fedcli.masking.progress import MaskedProgress
from fedcli.run.heartbeat import Training
from fedcli.run.spending import PrivacyStatus, Source
from fedcli.run.traffic import Traffic
from fedcli.steps.deliveries import Refusal
from fedcli.steps.status import Status

_MOST = 10  # refused updates


def render_sampled(status: Status) -> list[RenderableType]:
    """Print the sampled clients as ``train-client --id`` takes them."""
    return [",".join(status.sampled)]


def render(status: Status) -> list[RenderableType]:
    """Draw where a run stands."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("run", f"{status.run} ({status.id[:12]})")
    table.add_row("data", f"{status.dataset}, {status.classes} classes")
    table.add_row("model", status.model)
    table.add_row("clients", _names(status.clients) or "any (no list was given)")
    table.add_row("complete", _rounds(status))
    table.add_row("open round", str(status.open_round))
    if status.traffic is not None:
        table.add_row("exchange", _exchange(status.traffic))
    if status.round != status.open_round:
        table.add_row("in round", str(status.round))
    if status.sampled != status.clients:
        table.add_row("sampled", _names(status.sampled))
    table.add_row("delivered", _names(status.delivered) or "none")
    if status.clients:
        table.add_row("missing", _names(status.missing) or "none")
    if status.refused:
        table.add_row("refused", _names(tuple(one.client for one in status.refused)))
    if status.masked is not None and status.masked.survivors is not None:
        table.add_row("in the sum", _names(status.masked.survivors))
        table.add_row("answered", _answered(status.masked))
        if not status.masked.is_ready:
            table.add_row("to answer", _names(status.masked.waiting))
    if status.active is not None:
        table.add_row("running" if status.active.is_active else "interrupted", _activity(status))
    training = [_training_table(status.training)] if status.training else []
    refused = [line for one in status.refused[:_MOST] for line in _refusal(one)]
    return [table, *training, *refused, *next_of(status)]


def render_privacy(status: Status) -> list[RenderableType]:
    """Draw what a run has spent of its privacy."""
    found = status.privacy
    if found is None:
        return ["nothing in this run is private: its plan has neither --dp nor --update-noise"]
    budgets = [*found.examples, *([found.clients] if found.clients else [])]
    table = figures_table(
        ["privacy of", "by"], ["steps", "ε so far", "after one more", "limit", "δ"]
    )
    for one in budgets:
        whose = "the clients" if one.client is None else f"examples of {one.client}"
        limit = "" if one.limit is None else f"{one.limit:g}"
        after = "" if one.next_epsilon is None else f"{one.next_epsilon:.3f}"
        figures = (str(one.steps), _epsilon(one.epsilon), after, limit, f"{one.delta:g}")
        table.add_row(whose, one.source, *figures)
    return [table, *_in_all(found)]


def _epsilon(epsilon: float | None) -> str:
    return "no bound" if epsilon is None else f"{epsilon:.3f}"


def _in_all(found: PrivacyStatus) -> list[str]:
    lines = []
    if found.examples:
        lines.append(f"in all, each example: ε = {_epsilon(found.largest)}, as of its client")
    if any(one.source == Source.UPDATES for one in found.examples):
        lines.append(
            "by updates: what the updates here spent; ledgers, which clients keep, may have more"
        )
    return lines


def _answered(masked: MaskedProgress) -> str:
    """Say who has answered the list of a masked round, and how many must."""
    return f"{_names(masked.answered) or 'none'}; {masked.needed} open the sum"


def _exchange(traffic: Traffic) -> str:
    """Say what a client receives and sends in a round."""
    received = _about(traffic.received, traffic.exact_received)
    sent = _about(traffic.sent, traffic.exact)
    return f"each client receives {received} a round and sends {sent}"


def _about(count: int | None, exact: bool) -> str:
    if count is None:
        return "a file of unknown size"
    return f"{'' if exact else 'about '}{size_of(count)}"


def _activity(status: Status) -> str:
    assert status.active is not None
    active = status.active
    ago = _ago(active.seconds_ago)
    where = f"process {active.pid} on {active.host}, {ago}"
    left = ""
    if active.is_active and active.seconds_left is not None:
        left = f", about {in_words(active.seconds_left)} left"
    return f"fedcli run --rounds {active.rounds}{left} ({where})"


def _refusal(one: Refusal) -> list[str]:
    """Say why an update does not count, and what to do; the terminal wraps neither line."""
    return [f"{one.path}: {one.reason}", *([f"  {one.hint}"] if one.hint else [])]


def _training_table(training: tuple[Training, ...]) -> Table:
    table = figures_table(
        ["training", "host", "device"], ["epoch", "images/s", "memory", "last seen"]
    )
    hosts = short_hosts({client.host for client in training})
    for client in training:
        speed, memory = client.images_per_second, client.peak_memory_bytes
        ago = _ago(client.seconds_ago)
        table.add_row(
            client.client,
            hosts[client.host],
            client.device,
            f"{client.epoch}/{client.epochs}",
            "" if speed is None else f"{speed:.0f}",
            "" if memory is None else size_of(memory),
            ago if client.state == "training" else f"{ago}: {client.state}",
        )
    return table


def short_hosts(hosts: set[str]) -> dict[str, str]:
    """Return hosts without their domains, as far as they stay apart and are no addresses."""
    short = {host: host.partition(".")[0] for host in hosts}
    is_clear = len(set(short.values())) == len(hosts)
    return {host: short[host] if is_clear and not short[host].isdigit() else host for host in hosts}


def _ago(seconds: int) -> str:
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"


def _names(clients: tuple[str, ...]) -> str:
    shown = ", ".join(clients[:10])
    return f"{shown}, … ({len(clients)} in all)" if len(clients) > 10 else shown


def _rounds(status: Status) -> str:
    done = status.open_round - 1
    if done == 0:
        return "the starting model (round 0)"
    return f"round{'s' * (done > 1)} 1{f'–{done}' * (done > 1)}, {len(status.evaluated)} evaluated"
