"""Checks of the server's files in a round: global model, manifest and server state."""

import re
from dataclasses import replace
from pathlib import Path

from fedcli.aggregation.base_model import Base, slot_dtype
from fedcli.aggregation.updates import check_tensors
from fedcli.errors import UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import DTYPE_NAMES
from fedcli.formats.made_from import MadeFrom, made_from
from fedcli.formats.manifest import Manifest, in_all
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout, layout_of
from fedcli.run.participation import COVERED
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Claim, Survey, expect, expect_place

_NAME = re.compile(r"[^/\x00]+")  # of a partial mean


def read_manifests(survey: Survey, rounds: list[Round]) -> None:
    """Read the manifests of complete rounds, and note which updates they reject."""
    for round_ in rounds:
        if round_.number == 0:
            continue
        lost = survey.needed("; it says what the round's global model was made from")
        manifest = survey.record(Section.MANIFESTS, round_.manifest, Manifest, lost)
        if manifest is None:
            continue
        if strange := [e.name for e in manifest.partials if not _NAME.fullmatch(e.name)]:
            survey.add(Problem.CHANGED, round_.manifest, f"{strange[0]!r} is not a file name")
            continue
        survey.manifests[round_.number] = manifest
        for accepted in manifest.accepted:
            survey.accepted[accepted.round].add(accepted.client)
    for number, manifest in survey.manifests.items():
        for entry in manifest.rejected:
            if entry.round is None or entry.reason == COVERED:
                continue
            if (
                entry.client in survey.accepted[entry.round]
            ):  # else faults of the update would be ignored
                path = survey.run.round(number).manifest
                survey.add(
                    Problem.CHANGED,
                    path,
                    f"rejected: names client {entry.client} of round {entry.round}, whose update"
                    " a model was made from",
                )
                continue
            survey.reject(survey.run.round(entry.round).update(entry.client), entry.reason)


def check_model(survey: Survey, round_: Round) -> None:
    """Check the global model of a round, and note its claims about base and updates."""
    path, run = round_.global_model, survey.run

    def check(found: Checkpoint) -> None:
        metadata = found.metadata
        expect_place(run, metadata, round_, None)
        layout = layout_of({name: (i.dtype, i.shape) for name, i in found.layout.items()})
        if survey.model is None:
            survey.model = Base(run, round_, "", metadata, layout, layout, metadata.roles)
        check_tensors(survey.model, survey.model.whole, found)
        tells = metadata.updates is not None or metadata.list_sha256 is not None
        if round_.number > 0 and (metadata.base is None or not tells):
            raise ValueError("does not say what it was made from")

    needed = survey.needed("; the rounds after it were made from it")
    found = survey.checkpoint(Section.MODELS, path, Kind.GLOBAL, check, needed)
    if found is None or round_.number == 0:
        return
    manifest = survey.manifests.get(round_.number)
    _claim_origin(survey, round_, path, found)
    if manifest is not None:
        _compare(survey, round_, found, manifest)


def _claim_origin(survey: Survey, round_: Round, source: Path, found: Metadata) -> None:
    """Note the base and updates that a model, or a server state, claims to be made from."""
    run, manifest = survey.run, survey.manifests.get(round_.number)
    if found.base is not None:
        survey.claim(run.round(round_.number - 1).global_model, Claim(source, found.base))
    rounds = {} if manifest is None else {e.client: e.round for e in manifest.accepted}
    made = made_from(found, manifest)
    if made is None and manifest is not None:
        survey.doubted.add(round_.number)
        message = f"lists other updates than the header of {survey.name(source)}"
        listed = MadeFrom.of(manifest).sha256
        survey.add(Problem.CHANGED, round_.manifest, message, found.list_sha256, listed)
    for client, sha256 in () if made is None else made.updates.items():
        update = run.round(rounds.get(client, round_.number)).update(client)
        survey.claim(update, Claim(source, sha256))


def _compare(survey: Survey, round_: Round, found: Metadata, manifest: Manifest) -> None:
    """Compare a manifest with the metadata of the global model."""
    path = round_.manifest

    def wrong(message: str) -> None:
        survey.add(Problem.CHANGED, path, message)

    if manifest.round != round_.number:
        wrong(f"round: expected {round_.number}, found {manifest.round}")
    if (named := MadeFrom.named_in(found)) is not None:
        _compare_lists(survey, round_, named, manifest)
    counts = [entry.num_examples for entry in manifest.accepted]
    counts += [entry.num_examples for entry in manifest.partials]
    if found.num_examples is not None and in_all(counts) != found.num_examples:
        wrong(f"num_examples: expected {found.num_examples} in all, found {in_all(counts)}")


def _compare_lists(survey: Survey, round_: Round, named: MadeFrom, manifest: Manifest) -> None:
    """Compare a manifest with the updates and partial means that a global model names."""
    path = round_.manifest

    def wrong(message: str) -> None:
        survey.add(Problem.CHANGED, path, message)

    for what, said, expected in (
        ("accepted", {e.client for e in manifest.accepted}, set(named.updates)),
        ("partials", {e.name for e in manifest.partials}, set(named.partials)),
    ):
        for name in sorted(said ^ expected):
            where = (path, round_.global_model) if name in said else (round_.global_model, path)
            here, there = (survey.name(one) for one in where)
            wrong(f"{what}: {name} is named in {here}, but not in {there}")
    for entry in manifest.accepted:
        number = named.late.get(entry.client, round_.number)
        if entry.client in named.updates and entry.round != number:
            wrong(
                f"accepted: has the update of client {entry.client} of round {entry.round}; the"
                f" global model was made from that of round {number}"
            )
    for partial in manifest.partials:
        sha256 = named.partials.get(partial.name, partial.sha256)
        if sha256 != partial.sha256:
            message = f"names another SHA-256 for the partial mean {partial.name}"
            survey.add(Problem.CHANGED, path, message, sha256, partial.sha256)


def check_manifest(survey: Survey, round_: Round) -> None:
    """Note a manifest's claims about other files, and replay the sampling of its clients."""
    manifest, path, run = survey.manifests[round_.number], round_.manifest, survey.run
    survey.claim(run.round(round_.number - 1).global_model, Claim(path, manifest.base))
    survey.claim(round_.global_model, Claim(path, manifest.global_model))
    for entry in manifest.accepted:
        size = None if manifest.client_level.get("update_noise") else entry.bytes
        firm = round_.number not in survey.doubted
        claim = Claim(path, entry.sha256, size, entry.num_examples, firm=firm)
        survey.claim(run.round(entry.round).update(entry.client), claim)
    if manifest.sampled is not None:
        plan, count = run.info.plan.aggregate, len(manifest.sampled)
        try:
            plan = replace(plan, fraction=None, clients_per_round=count)
            drawn = sampled_clients(run.info, round_.number, plan)
        except UsageError:
            drawn = ()
        if drawn != manifest.sampled:
            message = "sampled: expected what the run's seed draws, {}; found {}".format(
                *(", ".join(names) or "none" for names in (drawn, manifest.sampled))
            )
            survey.add(Problem.CHANGED, path, message)


def check_server_state(survey: Survey, round_: Round) -> None:
    """Check the server state of a complete round."""
    manifest, path = survey.manifests.get(round_.number), round_.server_state
    if manifest is not None and manifest.server_state is None:
        if path.exists():
            survey.count(Section.SERVER_STATES, path)
            message = f"belongs to no model: {survey.name(round_.manifest)} names none"
            survey.add(Problem.NOTE, path, message)
        return
    if manifest is None and not path.exists():
        return

    def check(found: Checkpoint) -> None:
        expect_place(survey.run, found.metadata, round_, None)
        check_slots(survey, found.layout)
        if manifest is not None:
            said = found.metadata.server
            optimizer = None if said is None else said.server_optimizer
            expect("server_optimizer", manifest.server_optimizer, optimizer)

    latest = not survey.run.round(round_.number + 1).global_model.exists()
    missing = survey.deleted("was deleted")
    if latest:
        missing = survey.needed("; the next round cannot start without it")
    found = survey.checkpoint(Section.SERVER_STATES, path, Kind.SERVER_STATE, check, missing)
    if manifest is not None and manifest.server_state is not None:
        survey.claim(path, Claim(round_.manifest, manifest.server_state))
    if found is not None:
        _claim_origin(survey, round_, path, found)


def check_slots(survey: Survey, layout: Layout) -> None:
    """Raise ``ValueError`` for a tensor of a state without a counterpart in the model."""
    if survey.model is None:
        return
    for name, info in layout.items():
        of = survey.model.whole.get(name.partition("/")[2])
        if of is None:
            raise ValueError(f"tensor {name!r} belongs to no tensor of the model")
        expect(f"tensor {name!r}: shape", list(of.shape), list(info.shape))
        dtypes = {DTYPE_NAMES[dtype] for dtype in (of.dtype, slot_dtype(of.dtype))}
        if DTYPE_NAMES[info.dtype] not in dtypes:
            expect(f"tensor {name!r}: dtype", " or ".join(sorted(dtypes)), DTYPE_NAMES[info.dtype])
