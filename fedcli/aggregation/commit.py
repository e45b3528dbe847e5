"""Write a round: the next global model, the server state and the manifest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from fedcli.aggregation.blocks import Again
from fedcli.aggregation.diagnostics import compare_with
from fedcli.aggregation.downlink import RESIDUAL, EncodedStep, encode_step
from fedcli.aggregation.existing_round import Inputs, check_free
from fedcli.aggregation.open_round import OpenRound, RoundFiles, open_round
from fedcli.aggregation.provenance import digest_placeholder
from fedcli.aggregation.reduce import again_for, reduce_updates
from fedcli.aggregation.server_state import read_slot, state_layout
from fedcli.aggregation.updates import Update, check_sources
from fedcli.errors import BadInputError
from fedcli.formats.checkpoint import create, prepare
from fedcli.formats.delta import delta_metadata
from fedcli.formats.ledger import Ledger
from fedcli.formats.manifest import Manifest
from fedcli.progress import Progress
from fedcli.run.round import Round
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import sign_global
from fedcli.storage.atomic import storage_errors
from fedcli.storage.commit import locked


@contextmanager
def _create(opened: OpenRound, *, replace: bool) -> Iterator[RoundFiles]:
    """Create the unpublished files."""
    round_, rule, base = opened.inputs.round, opened.inputs.rule, opened.base
    metadata = opened.metadata(digest_placeholder)
    with create(round_.global_model, base.whole, metadata, replace=replace) as model:
        left = {} if opened.downlink is None else opened.downlink.kept(base)
        if not (layout := state_layout(rule, base, left)):
            yield RoundFiles(model, None)
            return
        described = opened.state_metadata(metadata)
        with create(round_.server_state, layout, described) as state:
            yield RoundFiles(model, state)


def write_round(
    inputs: Inputs,
    diagnostics: bool,
    progress: Progress,
    signing: SigningKey | None = None,
    *,
    force: bool = False,
) -> Manifest:
    """Combine the inputs and write the round, signed if a key is given.

    Raises ``UpdateError``, ``BadInputError``, ``NotReadyError``, ``StorageError``, and without
    ``force`` ``OvertakenError`` if a global model exists.
    """
    started = time.perf_counter()
    with (
        open_round(inputs, progress, diagnostics) as opened,
        _create(opened, replace=force) as outputs,
    ):
        comparison = opened.comparison
        left = comparison if comparison is not None and not comparison.is_complete else None
        at_once = opened.downlink is None and again_for(opened.work) != Again.NEVER
        now = left if at_once else None
        reduce_updates(opened.work, outputs.model, outputs.state, progress, now)
        check_sources(opened.clients)
        step = _encoded(opened, outputs)
        if left is not None and now is None:
            compare_with(outputs.model, opened.base, left, progress)
        figures = comparison.figures() if comparison is not None else []
        outputs.finish(opened)
        with _with_delta(opened, outputs, step) as files:
            manifest = opened.manifest(figures, files, time.perf_counter() - started)
            return _commit(opened, files, manifest, signing, force=force)


def _encoded(opened: OpenRound, outputs: RoundFiles) -> EncodedStep | None:
    """Encode the step to the model, if the plan says so; the model becomes the decoded one."""
    base, downlink = opened.base, opened.downlink
    if downlink is None:
        return None
    before, _ = read_slot(base.run, base.round.number, RESIDUAL) if downlink.feedback else ({}, "")
    step = encode_step(downlink, base, outputs.model, before)
    for name, values in step.residual.items():
        assert outputs.state is not None
        outputs.state.write(values, outputs.state.layout[name].start)
    return step


@contextmanager
def _with_delta(
    opened: OpenRound, outputs: RoundFiles, step: EncodedStep | None
) -> Iterator[RoundFiles]:
    """Add the delta of the finished model."""
    if step is None:
        yield outputs
        return
    metadata = delta_metadata(opened.metadata(Update.digest), step.codec, outputs.model.sha256)
    with prepare(opened.inputs.round.delta, step.tensors, metadata) as delta:
        yield replace(outputs, delta=delta)


def _commit(
    opened: OpenRound,
    outputs: RoundFiles,
    manifest: Manifest,
    signing: SigningKey | None,
    *,
    force: bool,
) -> Manifest:
    """Write manifest, signature and state, then the model, as the only writer of the round.

    Return the manifest, which lists what an earlier aggregation of the round spent, too.
    """
    run, round_ = opened.inputs.run, opened.inputs.round

    def write(manifest: Manifest) -> None:
        for update in opened.updates:
            update.values.check_in_place()
        manifest.write(round_.manifest)
        if signing is not None:
            sign_global(run, round_, manifest.global_model, manifest.server_state, signing)
        for path, file in ((round_.delta, outputs.delta), (round_.server_state, outputs.state)):
            if file is not None:
                file.publish()
                continue
            with storage_errors("remove", path):
                path.unlink(missing_ok=True)

    outputs.model.flush()  # so that publishing is quick
    with locked(round_.path):  # else two writers could mix their files
        replaces = check_free(opened.inputs, manifest.global_model, force=force)
        beside = (round_.delta, round_.server_state)
        companions = (*beside, round_.global_signature, round_.manifest)
        charged = _charged(manifest, round_)
        outputs.model.commit(companions, partial(write, charged), replaces=replaces)
    return charged


def _charged(manifest: Manifest, round_: Round) -> Manifest:
    """Add what the manifest in its place says was spent: that was seen, whatever replaces it.

    That manifest lists both from now on: an error puts the old round back, when somebody may have
    read a part of the new one. Raises ``BadInputError`` if a round that spends privacy would
    replace one whose manifest cannot be read.
    """
    try:
        earlier = Manifest.read(round_.manifest)
    except BadInputError as error:
        if not manifest.privacy:
            return manifest
        hint = "put a copy back: without it nobody knows what the round has spent"
        raise error.amended(hint=hint) from None
    if earlier is None:
        return manifest
    spent = Ledger(earlier.privacy).merged(manifest.privacy).entries
    if set(spent) != set(earlier.privacy):
        replace(earlier, privacy=spent).write(round_.manifest)
    return replace(manifest, privacy=spent)
