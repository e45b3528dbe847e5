"""Make a run without data, for clients that hold their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.datasets.windows import parse_window
from fedcli.errors import UsageError
from fedcli.formats.public_key import public_keys
from fedcli.formats.remote_names import check_default_remote
from fedcli.plan.secagg import SecaggOptions
from fedcli.run import Run
from fedcli.run.exchange import files_of_round
from fedcli.run.info import DatasetInfo, RunInfo, check_client_id, client_order
from fedcli.run.next_command import train_command
from fedcli.run.sampling import sampled_clients
from fedcli.security.keys import read_key
from fedcli.setup.existing_run import existing
from fedcli.setup.masked_run import plan_with_masks
from fedcli.setup.new_run import built_aside, initial_model, inputs_of, plan_of, write_round_zero
from fedcli.setup.start import Start

if TYPE_CHECKING:
    from fedcli.models.start_weights import StartReport


@dataclass(frozen=True)
class InitResult:
    """The result of ``init``; ``clients`` is empty if any client may take part.

    ``members`` and ``coordinator`` are public keys. ``send`` lists the files that clients need.
    ``mean`` and ``std`` are of pixels, and ``start_weights`` says what became of given weights,
    None if there were none.
    """

    run: Path
    id: str
    already_done: bool
    model: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    window: tuple[float, ...] | None
    clients: tuple[str, ...]
    members: Mapping[str, str]
    coordinator: str | None
    seed: int
    send: tuple[Path, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform_input: bool
    start_weights: "StartReport | None"
    next: str


def init(
    root: Path,
    classes: Sequence[str],
    *,
    clients: Sequence[str] = (),
    members: Mapping[str, str] | None = None,
    key: Path | None = None,
    noise_key: Path | None = None,
    image_size: int = 32,
    channels: int = 3,
    window: str | None = None,
    remote: str | None = None,
    start: Start | None = None,
    force: bool = False,
) -> InitResult:
    """Write round 0 and finally ``run.json`` at ``root``, without ``data/``.

    Examples are uint8 pictures (channels, image_size, image_size); ``window``, LOW,HIGH, says which
    values clients map to 0 … 255. ``members`` replaces ``clients`` and maps client ids to lines of
    public keys: their updates must be signed. With ``key``, the file of the coordinator's private
    key, global models are signed too. ``run.json`` commits to ``noise_key``, the file of the
    coordinator's noise key. Masked updates (``start.secagg``) need both kinds of keys. ``remote``
    is where ``push`` and ``pull`` go if they are not told. If the same run exists, nothing is
    touched.

    Raises ``UsageError``, ``ConflictError`` and ``StorageError``, and what ``read_key`` does.
    """
    start = (start or Start()).settled().committed(noise_key, root)
    signing = None if key is None else read_key(key, outside=root)
    info = _info(classes, clients, (channels, image_size, image_size), start, window)
    info = _with_keys(info, members or {}, None if signing is None else signing.public)
    info = _masked(info, members or {}, start.secagg)
    if remote is not None:
        info = replace(info, remote=check_default_remote(remote, "--remote"))
    run = existing(root, info, force=force)
    if run is not None:
        return _result(run, already_done=True)
    model = initial_model(start, info)
    with built_aside(root, info, force=force) as run:
        write_round_zero(run, model, signing)
    return _result(Run.open(root), already_done=False, report=model.report)


def _info(
    classes: Sequence[str],
    clients: Sequence[str],
    shape: tuple[int, ...],
    start: Start,
    window: str | None,
) -> RunInfo:
    _distinct("--classes", classes)
    _distinct("--clients", clients)
    if len(classes) < 2:
        raise UsageError(f"--classes: expected two classes or more, found {len(classes)}")
    if shape[0] not in (1, 3):
        raise UsageError(f"--channels: expected 1 (grey) or 3 (RGB), found {shape[0]}")
    mean, std = start.normalization("uint8", shape[0])
    return RunInfo(
        dataset=DatasetInfo("own", tuple(classes), shape, "uint8", mean, std, parse_window(window)),
        model=start.model,
        seed=start.seed,
        clients=tuple(client_order(check_client_id(client) for client in clients)),
        plan=plan_of(start, classes, shape),
        origin={"step": "init", **start.origin()},
        noise_key=start.noise_key,
    )


def _with_keys(info: RunInfo, members: Mapping[str, str], coordinator: str | None) -> RunInfo:
    keys = {
        client: public_keys(line, f"--member {check_client_id(client)}")
        for client, line in members.items()
    }
    if members and info.clients:
        raise UsageError("--clients: with --member, the members are the clients")
    clients = tuple(client_order(members)) or info.clients
    signing = {client: keys[client].signing for client in members}
    return replace(info, clients=clients, members=signing, coordinator=coordinator)


def _masked(info: RunInfo, members: Mapping[str, str], options: SecaggOptions) -> RunInfo:
    """Return the run with secure aggregation, if it is asked for. Raises ``UsageError``."""
    plan = plan_with_masks(info, options)
    if plan is None:
        return info
    if not members or info.coordinator is None:
        raise UsageError(
            "--secagg: needs --member ID=KEY for every client, and --key of the coordinator: masked"
            " updates and lists of them are signed"
        )
    keys = {client: public_keys(members[client], f"--member {client}") for client in info.clients}
    found = {client: both.masking for client, both in keys.items() if both.masking is not None}
    if lacking := [client for client in info.clients if client not in found]:
        raise UsageError(
            f"--member {lacking[0]}: has no x25519 key, which --secagg needs",
            hint="fedcli keygen FILE makes both keys and prints them as one line",
        )
    return replace(info, plan=plan, masking_keys=found)


def _distinct(option: str, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"{option}: names {twice[0]!r} twice")


def _result(run: Run, *, already_done: bool, report: "StartReport | None" = None) -> InitResult:
    return InitResult(
        run=run.root,
        id=run.id,
        already_done=already_done,
        model=run.info.model.name,
        classes=run.info.dataset.classes,
        shape=run.info.dataset.shape,
        window=run.info.dataset.window,
        clients=run.info.clients,
        members=run.info.members,
        coordinator=run.info.coordinator,
        seed=run.info.seed,
        **inputs_of(run.info),
        start_weights=report,
        send=files_of_round(run, run.round(0)),
        next=train_command(run, sampled_clients(run.info, 1)),
    )
