"""A masked round from ``init`` to the global model, through files, and what is refused."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.masked_runs import (
    BITS,
    CLIP,
    MEMBERS,
    ONE_THREAD,
    MaskedRun,
    masked_run,
    plain_run,
    private_keys,
)
from support.signing import flip, states

from fedcli.cli import execute
from fedcli.errors import (
    BadInputError,
    ConflictError,
    FedcliError,
    NotReadyError,
    UpdateError,
    UsageError,
)
from fedcli.evaluation.candidates import update_models
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.manifest import Manifest
from fedcli.formats.masked import SurvivorsFile
from fedcli.formats.metadata import Kind
from fedcli.formats.telemetry import Telemetry
from fedcli.masking.keys import read_masking_key
from fedcli.masking.pairwise import Agreement
from fedcli.masking.quantise import Grid, Quantised
from fedcli.masking.rounds import cohort_of
from fedcli.plan import AggregatePlan, TrainPlan
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.security.keys import SigningKey
from fedcli.security.records import sign_record
from fedcli.steps.gc import gc
from fedcli.steps.inspect import inspect
from fedcli.steps.status import status
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MaskedRun:
    """A run for which a, b and c have delivered; nobody changes it."""
    made = masked_run(tmp_path_factory.mktemp("trained"))
    for client in "abc":
        made.train(client)
    return made


@pytest.fixture
def delivered(trained: MaskedRun, tmp_path: Path) -> MaskedRun:
    shutil.copytree(trained.run.root.parent, tmp_path, dirs_exist_ok=True)
    keys = {name: replace(key, path=tmp_path / key.path.name) for name, key in trained.keys.items()}
    return MaskedRun(Run.open(tmp_path / "fedrun"), keys)


@pytest.fixture
def closed(delivered: MaskedRun) -> MaskedRun:
    delivered.close()
    return delivered


def values(path: Path, kind: Kind) -> dict[str, np.ndarray]:
    with Checkpoint(path, kind) as found:
        return found.tensors()


# the sum


@pytest.mark.parametrize(("came", "answering"), [("abcd", "abc"), ("acd", "bcd"), ("abc", "abcd")])
def test_the_model_is_that_of_plain_quantised_averaging_to_the_byte(tmp_path, came, answering):
    masked = masked_run(tmp_path / "masked")
    masked.finish(came, answering)
    plain = plain_run(tmp_path / "plain")
    train_client(plain, list(came), execution=ONE_THREAD)
    step = CLIP / 2 ** (BITS - 1)
    before = values(plain.round(0).global_model, Kind.GLOBAL)
    found = values(masked.round.global_model, Kind.GLOBAL)
    for name, x in before.items():
        total = np.zeros(x.shape)
        for client in came:
            change = values(plain.round(1).update(client), Kind.UPDATE)[name] - x
            total += np.rint(change.astype(np.float64) / step)
        n = len(came)
        expected = ((x.astype(np.float64) * n + total * step) / n).astype(np.float32)
        assert found[name].tobytes() == expected.tobytes()
        assert np.abs(total).max() > 100  # else nothing was compared


def test_a_round_names_whose_updates_are_in_it_and_who_is_not(closed):
    for client in "abd":
        closed.unmask(client)
    made = closed.aggregate()
    assert [(one.name, one.clients) for one in made.partials] == [("sum", 3)]
    assert [one.client for one in made.missing] == ["d"]
    with Checkpoint(closed.round.masked_sum, Kind.PARTIAL) as total:
        assert list(total.metadata.updates or {}) == ["a", "b", "c"]
    before = states(closed.run.root)
    assert closed.aggregate().already_done
    assert closed.aggregate(round_number=1).already_done
    assert states(closed.run.root) == before


def test_anybody_opens_the_same_sum(closed):
    for client in "abcd":
        closed.unmask(client)
    first = closed.aggregate().sha256
    opened = closed.round.masked_sum.read_bytes()
    (closed.round.path / "unmask" / "a.json").unlink()
    closed.round.masked_sum.unlink()
    again = closed.aggregate(force=True)  # with the answers of b, c and d
    assert closed.round.masked_sum.read_bytes() == opened
    assert again.sha256 == first


def test_the_next_round_starts_from_the_model_and_has_other_masks(tmp_path):
    made = masked_run(tmp_path)
    made.finish()
    first = values(made.round.update("a"), Kind.UPDATE)["masked"]
    for client in "abc":
        made.train(client)
    second = values(made.run.round(2).update("a"), Kind.UPDATE)["masked"]
    assert (first != second).mean() > 0.99
    made.close()
    for client in "abd":
        made.unmask(client)
    assert made.aggregate().round == 2


def test_repeating_a_step_changes_nothing_and_force_gives_the_same_bytes(delivered):
    before = states(delivered.run.root)
    assert delivered.train("a").already_done
    assert states(delivered.run.root) == before
    round_ = delivered.round
    bytes_ = [path.read_bytes() for path in (round_.update("a"), round_.shares("a"))]
    assert not delivered.train("a", force=True).already_done
    assert bytes_ == [path.read_bytes() for path in (round_.update("a"), round_.shares("a"))]
    closed = delivered.close()
    assert not closed.already_done
    before = states(delivered.run.root)
    assert delivered.close().already_done
    assert states(delivered.run.root) == before
    assert not delivered.unmask("a").already_done
    before = states(delivered.run.root)
    assert delivered.unmask("a").already_done
    assert states(delivered.run.root) == before


def test_lost_or_changed_shares_are_made_again(delivered):
    shares = delivered.round.shares("a")
    before = shares.read_bytes()
    for damage in (shares.unlink, lambda: flip(shares, 900)):
        damage()
        assert not delivered.train("a").already_done
        assert shares.read_bytes() == before


# what it does not tell


def test_no_file_tells_of_a_clients_data(trained):
    with Checkpoint(trained.round.update("a"), Kind.UPDATE) as update:
        found = update.metadata
        assert list(update.layout) == ["masked"]
    assert (found.num_examples, found.training.steps, found.training.initial_loss) == (None,) * 3
    assert found.training.examples is not None
    told = Telemetry.read(trained.round.telemetry("a"))
    assert told is not None
    assert (told.num_examples, told.epochs, told.images_per_second) == (None, (), None)


def test_the_digest_of_the_examples_is_the_clients_own(tmp_path, trained):
    """A reader who holds the same data cannot recognise it: the digest is keyed."""
    plain = plain_run(tmp_path)
    train_client(plain, ["a"], execution=ONE_THREAD)
    with Checkpoint(plain.round(1).update("a"), Kind.UPDATE) as update:
        known = update.metadata.training.examples
    assert known
    for path in trained.round.updates.iterdir():
        assert known.encode() not in path.read_bytes()


def secrets_of(made: MaskedRun) -> list[bytes]:
    """All keys of everybody, all that two members agree on, and all seeds."""
    found = [key for name in (*MEMBERS, "coordinator") for key in private_keys(name)]
    cohort = cohort_of(made.run, made.round)
    for member in MEMBERS:
        key = read_masking_key(made.keys[member].path)
        agreement = Agreement.of(cohort, member, key)
        found += [one.value for one in agreement.with_others.values()]
        found += [agreement.pair_seed(other).value for other in MEMBERS if other != member]
    return found


def forms(secret: bytes) -> list[bytes]:
    from base64 import b64encode, urlsafe_b64encode

    # base64 of a longer text that contains it has one of three alignments
    inner = [b64encode(bytes(pad) + secret)[4 if pad else 0 : -4] for pad in range(3)]
    return [secret, secret[::-1], secret.hex().encode(), b64encode(secret),
            urlsafe_b64encode(secret), *inner, repr(secret)[2:-1].encode()]  # fmt: skip


def test_no_secret_is_in_any_file_or_output(delivered, monkeypatch, capfd):
    monkeypatch.chdir(delivered.run.root.parent)
    lines = [
        "train-client --id d --key d.key --threads 1 --json",
        "train-client --id d --key a.key --debug",
        "unmask --id a --key a.key --debug",
        "aggregate --close --key coordinator.key --json",
        "unmask --id a --key a.key --json",
        "unmask --id b --key b.key",
        "unmask --id d --key c.key --debug",
        "unmask --id d --key d.key --debug",
        "aggregate --key coordinator.key --json",
        "keygen --show a.key --json",
        "status --json",
        "verify --json",
    ]
    statuses = [execute(line.split()) for line in lines]
    assert statuses[:9] == [0, 2, 3, 0, 0, 0, 2, 0, 0]
    out, err = capfd.readouterr()
    texts = {"output": out.encode(), "errors": err.encode()}
    for path in delivered.run.root.rglob("*"):
        if path.is_file():
            texts[str(path)] = path.read_bytes()
    for folder in delivered.run.root.parent.glob("*.answered"):
        texts |= {str(path): path.read_bytes() for path in folder.iterdir()}
    assert len(texts) > 20
    for secret in secrets_of(delivered):
        for form in forms(secret):
            assert [name for name, text in texts.items() if form in text] == []


def test_the_search_finds_what_it_looks_for():
    from base64 import b64encode

    secret = private_keys("a")[1]
    for text in (secret, secret.hex().encode(), b64encode(secret), b64encode(b"x" + secret),
                 b64encode(b"ab" + secret + b"c"), repr(secret).encode()):  # fmt: skip
        assert any(form in text for form in forms(secret))


# a changed byte


def bits_of(path: Path, count: int) -> list[int]:
    rng = np.random.default_rng(path.stat().st_size)
    return rng.choice(8 * path.stat().st_size, count, replace=False).tolist()


@pytest.mark.parametrize("name", ["updates/a.safetensors", "updates/a.shares", "updates/a.sig"])
def test_a_changed_bit_leaves_a_client_out_of_the_list(delivered, name):
    """With a of a, b, c and the threshold 3, too few are left."""
    path = delivered.round.path / name
    whole = path.read_bytes()
    for bit in bits_of(path, 12):
        flip(path, bit)
        if json_value(path) == json_value_of(whole):
            path.write_bytes(whole)
            continue  # white space, or a digit of the format that is read alike
        with pytest.raises(NotReadyError, match="2 masked updates can be used, expected"):
            delivered.close()
        path.write_bytes(whole)
    assert delivered.close().survivors == ("a", "b", "c")


def json_value(path: Path) -> object:
    return json_value_of(path.read_bytes()) if path.suffix == ".sig" else path.read_bytes()


def json_value_of(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data


@pytest.mark.parametrize(
    "name", ["updates/a.safetensors", "updates/a.shares", "survivors.json", "unmask/b.json"]
)
def test_a_changed_bit_after_the_round_was_closed_is_refused(closed, name):
    for client in "abc":
        closed.unmask(client)
    path = closed.round.path / name
    whole = path.read_bytes()
    for bit in bits_of(path, 12):
        flip(path, bit)
        if name.endswith(".json") and json_value_of(path.read_bytes()) == json_value_of(whole):
            path.write_bytes(whole)
            continue
        with pytest.raises((BadInputError, NotReadyError)) as caught:
            closed.aggregate()
        assert "mistake in fedcli" not in str(caught.value.hint)
        assert not closed.round.global_model.exists()
        path.write_bytes(whole)
    assert closed.aggregate().round == 1


def test_a_list_that_the_coordinator_did_not_sign_gets_no_answer(closed):
    path = closed.round.survivors
    file = SurvivorsFile.read(path)
    assert file is not None
    forged = sign_record(file.signed, SigningKey.of(closed.keys["d"]))
    SurvivorsFile(*forged).write(path)
    with pytest.raises(BadInputError, match="is not signed by the key of the coordinator"):
        closed.unmask("a")
    assert not closed.round.answer("a").exists()


# two lists


@pytest.fixture
def two_lists(delivered: MaskedRun) -> tuple[MaskedRun, bytes, bytes]:
    """A run with four updates; a list with all of them, and another without a."""
    delivered.train("d")
    delivered.close()
    first = delivered.round.survivors.read_bytes()
    delivered.round.survivors.unlink()
    shutil.rmtree(delivered.keys["coordinator"].path.with_name("coordinator.key.closed"))
    delivered.close(exclude=["a"])  # as a lying coordinator does
    return delivered, first, delivered.round.survivors.read_bytes()


def test_a_second_list_gets_no_answer(two_lists):
    made, first, second = two_lists
    made.round.survivors.write_bytes(first)
    made.unmask("b")
    answered = made.round.answer("b").read_bytes()
    made.round.survivors.write_bytes(second)
    shutil.rmtree(made.round.path / "unmask")  # the attacker owns the run directory
    with pytest.raises(ConflictError, match="another list of survivors of this round") as caught:
        made.unmask("b")
    assert str(caught.value.path).startswith(f"{made.keys['b'].path}.answered/")
    assert not made.round.answer("b").exists()
    made.round.survivors.write_bytes(first)
    made.unmask("b")
    assert made.round.answer("b").read_bytes() == answered


def test_an_honest_coordinator_signs_one_list_even_if_others_remove_it(delivered):
    """Whoever can write into the run removes the list and an update, to have another one signed."""
    first = delivered.close()
    before = delivered.round.survivors.read_bytes()
    delivered.round.survivors.unlink()
    delivered.train("d")
    again = delivered.close(exclude=["a"])
    assert again.already_done
    assert again.survivors == first.survivors
    assert delivered.round.survivors.read_bytes() == before


class Killed(BaseException):
    """What a killed process does not survive."""


CALLS = ("open", "write", "pwrite", "fsync", "link", "rename", "replace", "unlink")


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Kill the process before its nth system call of a kind that changes a disk."""
    count = [0]
    for name in CALLS:
        really = getattr(os, name)

        def watched(*given, really=really, **more):
            count[0] += 1
            if count[0] == number:
                raise Killed
            return really(*given, **more)

        monkeypatch.setattr(os, name, watched)
    return count


def test_no_crash_lets_a_member_answer_two_lists(two_lists, monkeypatch):
    made, first, second = two_lists
    record, answers = made.keys["b"].path.with_name("b.key.answered"), made.round.path / "unmask"
    number, refused, fresh = 0, 0, 0
    while True:
        number += 1
        for folder in (record, answers):
            shutil.rmtree(folder, ignore_errors=True)
        made.round.survivors.write_bytes(first)
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                made.unmask("b")
                survived = True
            except Killed:
                survived = False
        shown = made.round.answer("b").exists()
        made.round.survivors.write_bytes(second)
        try:
            made.unmask("b")
            assert not shown
            fresh += 1
        except ConflictError:
            refused += 1
        if survived:
            break
    assert fresh > 3
    assert refused > 3  # among them kills between the record and the answer


def test_no_crash_lets_a_coordinator_sign_two_lists(delivered, monkeypatch):
    """After each kill somebody removes the list and an update, and has the round closed again."""
    delivered.train("d")
    kept = delivered.keys["coordinator"].path.with_name("coordinator.key.closed")
    number, bound, free = 0, 0, 0
    while True:
        number += 1
        delivered.round.survivors.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                delivered.close()
                survived = True
            except Killed:
                survived = False
        was_shown = delivered.round.survivors.exists()
        first = delivered.round.survivors.read_bytes() if was_shown else b""
        delivered.round.survivors.unlink(missing_ok=True)
        again = delivered.close(exclude=["a"])
        if again.already_done:
            bound += 1
            assert again.survivors == MEMBERS
            assert not was_shown or delivered.round.survivors.read_bytes() == first
        else:
            free += 1
            assert not was_shown
        if survived:
            break
    assert free > 3
    assert bound > 3  # among them kills between the two copies of the list


def test_a_member_that_sends_more_than_the_clip_is_noticed(tmp_path, monkeypatch):
    """Nobody can look behind the mask, but the sum of honest members has its bounds."""
    made = masked_run(tmp_path)
    made.train("a")
    made.train("b")

    def lying(grid: Grid, values: np.ndarray, weight: float = 1.0) -> Quantised:
        return Quantised(np.full(values.size, 4 * grid.largest, np.int32), 0)

    with monkeypatch.context() as patch:
        patch.setattr(Grid, "quantise", lying)
        made.train("c")
    made.close()
    for client in "abc":
        made.unmask(client)
    with pytest.raises(BadInputError, match=r"386 of 386 sums lie beyond 3 times") as caught:
        made.aggregate()
    assert caught.value.path == made.round.survivors
    assert not made.round.global_model.exists()


# late, and other people


def test_a_client_does_not_train_for_a_closed_round(closed):
    with pytest.raises(ConflictError, match="round 1 is closed"):
        closed.train("d")
    with pytest.raises(ConflictError, match="round 1 is closed"):
        closed.train("a", force=True)
    assert closed.train("a").already_done
    assert not closed.round.update("d").exists()


def test_an_update_that_comes_late_is_listed_and_in_no_sum(delivered):
    """It was made before the round was closed, and arrived after."""
    delivered.train("d")
    late = [p for p in delivered.round.updates.iterdir() if p.name.startswith("d.")]
    kept = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    delivered.close()
    for path, data in kept.items():
        path.write_bytes(data)
    for client in "abc":
        delivered.unmask(client)
    delivered.aggregate()
    manifest = Manifest.read(delivered.round.manifest)
    assert manifest is not None
    assert [(one.client, one.round) for one in manifest.late] == [("d", 1)]
    assert "d" not in [one.client for one in (*manifest.missing, *manifest.rejected)]
    assert not manifest.accepted


def test_a_wrong_key_masks_and_answers_nothing(closed):
    for what in (closed.train, closed.unmask):
        keys = {**closed.keys, "d": closed.keys["c"]}
        with pytest.raises(UsageError, match="is not the key of client d"):
            getattr(MaskedRun(closed.run, keys), what.__name__)("d")


def test_a_key_without_a_mask_is_refused(closed, tmp_path):
    pem = closed.keys["a"].path.read_bytes()
    closed.keys["a"].path.write_bytes(pem[: pem.index(b"-----BEGIN", 5)])
    with pytest.raises(UsageError, match="has no X25519 key"):
        closed.unmask("a")


def test_too_few_updates_or_answers_open_nothing(tmp_path):
    made = masked_run(tmp_path)
    made.train("a")
    made.train("b")
    with pytest.raises(NotReadyError, match="2 masked updates can be used, expected"):
        made.close()
    with pytest.raises(NotReadyError, match=r"survivors\.json: no such file"):
        made.unmask("a")
    with pytest.raises(NotReadyError, match=r"survivors\.json: no such file"):
        made.aggregate()
    made.train("c")
    made.close()
    made.unmask("a")
    made.unmask("b")
    with pytest.raises(NotReadyError, match="2 of 3 members have answered; waiting for: c, d"):
        made.aggregate()
    assert not made.round.masked_sum.exists()


# what is impossible


@pytest.mark.parametrize(
    ("train", "rule", "says"),
    [
        ({}, {"strategy": "median"}, "--reduce: is impossible with --secagg: median"),
        ({}, {"strategy": "krum"}, "--reduce: is impossible with --secagg: krum"),
        ({}, {"strategy": "rfa"}, "--reduce: is impossible with --secagg"),
        ({}, {"strategy": "fednova"}, "--weighting: is impossible with --secagg: fednova"),
        ({}, {"weighting": "examples"}, "--max-examples: expected 1 … 536870911 with"),
        ({}, {"weighting": "examples", "max_examples": 2**29}, "--max-examples: expected 1 …"),
        ({}, {"strategy": "fedbuff"}, "is impossible with --secagg"),
        ({}, {"strategy": "qfedavg"}, "is impossible with --secagg"),
        ({}, {"max_norm": 3.0}, "--max-norm: is impossible with --secagg"),
        ({"encode": "int8"}, {}, "--encode: is impossible with --secagg"),
        ({"encode": "topk=0.1"}, {}, "--encode: is impossible with --secagg"),
        ({"encode": "randk=0.1,float16"}, {}, "--encode: is impossible with --secagg"),
        ({"initial_loss": True}, {}, "--initial-loss: is impossible with --secagg"),
        ({"algorithm": "scaffold"}, {"strategy": "scaffold"}, "--secagg-control-clip: say how"),
        ({"encode": "randk=0.5", "feedback": 0.5}, {}, "--feedback: is impossible with --secagg"),
    ],
)
def test_rules_that_need_single_updates_are_refused_by_init(tmp_path, train, rule, says):
    plan = TrainPlan(epochs=1).with_options(train)
    with pytest.raises(UsageError, match=says):
        masked_run(tmp_path, train=plan, rule=AggregatePlan(**rule))
    assert not (tmp_path / "fedrun").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"options": {"strategy": "median"}}, "--reduce: is impossible with --secagg"),
        ({"options": {"weighting": "examples"}}, "--weighting: masked steps are weighted by"),
        ({"options": {"max_examples": 5}}, "--max-examples: nobody sees how many"),
        ({"members": ["a"]}, "MEMBER: updates of this run are masked"),
        ({"exclude": ["a"]}, "--exclude: updates of this run are masked"),
        ({"min_clients": 2}, "--min-clients: updates of this run are masked"),
    ],
)
def test_they_are_refused_by_aggregate_too(trained, options, says):
    with pytest.raises(UsageError, match=says):
        trained.aggregate(**options)


def test_a_client_cannot_leave_the_masks_out(tmp_path):
    made = masked_run(tmp_path)
    for options in ({"encode": "int8"}, {"initial_loss": True}):
        with pytest.raises(UsageError, match="is impossible with --secagg"):
            made.train("a", options=options)
    assert not made.round.updates.exists()


def test_a_model_with_buffers_is_refused_unless_they_stay_at_the_client(tmp_path):
    with pytest.raises(UsageError, match=r"is a buffer, and only parameters are masked"):
        masked_run(tmp_path, model="resnet18")
    assert not (tmp_path / "fedrun").exists()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--secagg", "--secagg-clip: say how much"),
        ("--threshold 3", "--threshold: belongs to --secagg"),
        ("--secagg --secagg-clip 1 --threshold 2", "--threshold: expected 3 … 4 of 4 clients"),
        (
            "--secagg --secagg-clip 1 --secagg-bits 30",
            "--secagg-bits: expected 2 … 29 for 4 clients",
        ),
        ("--secagg --secagg-clip 0", "--secagg-clip: expected a number above 0"),
        ("--secagg --secagg-clip 1 --clients-per-round 2", "at least 3 clients in a round"),
    ],
)
def test_what_init_refuses(trained, tmp_path, monkeypatch, capsys, typed, says):
    monkeypatch.chdir(tmp_path)
    keys = {name: key.public.line for name, key in trained.keys.items()}
    members = [word for name in MEMBERS for word in ("--member", f"{name}={keys[name]}")]
    known = ["init", "--num-classes", "2", "--key", str(trained.keys["coordinator"].path)]
    assert execute([*known, *members, *typed.split()]) == 2
    assert says in capsys.readouterr().err
    assert not Path("fedrun").exists()


def test_members_need_both_keys(trained, tmp_path):
    from fedcli.plan.secagg import SecaggOptions
    from fedcli.setup.start import Start
    from fedcli.steps.init import init

    lines = {name: trained.keys[name].public.line for name in MEMBERS}
    asked = Start(secagg=SecaggOptions(secagg=True, secagg_clip=1.0))
    with pytest.raises(UsageError, match="--secagg: needs --member ID=KEY for every client"):
        init(tmp_path / "r", ("x", "y"), members=lines, start=asked)
    with pytest.raises(UsageError, match="--secagg: expected at least 3 clients"):
        init(tmp_path / "r", ("x", "y"), start=asked)
    key = trained.keys["coordinator"].path
    lines["b"] = trained.keys["b"].public.signing
    with pytest.raises(UsageError, match="--member b: has no x25519 key"):
        init(tmp_path / "r", ("x", "y"), members=lines, key=key, start=asked)


def test_a_run_that_only_signs_keeps_its_bytes(trained, tmp_path):
    """The line with both keys makes the run that the line with the first key makes."""
    from fedcli.steps.init import init

    key = trained.keys["coordinator"].path
    made = []
    for name, line in (("one", lambda k: k.signing), ("both", lambda k: k.line)):
        lines = {member: line(trained.keys[member].public) for member in MEMBERS}
        init(tmp_path / name, ("x", "y"), members=lines, key=key, image_size=8)
        made.append((tmp_path / name / "run.json").read_bytes())
    assert made[0] == made[1]
    assert b"x25519" not in made[0]


def test_a_plain_run_is_neither_closed_nor_unmasked(tmp_path):
    plain = plain_run(tmp_path)
    from fedcli.steps.close import close_round
    from fedcli.steps.unmask import unmask

    for what in (lambda: close_round(plain), lambda: unmask(plain, "a")):
        with pytest.raises(UsageError, match="updates of this run are not masked"):
            what()


# what other commands make of it


def problems(run: Run, **more: object) -> list[tuple[str, str]]:
    found = verify(run.root, **more)
    # the shards of this test stand for the clients' own folders
    return [(one.file, one.problem.value) for one in found.findings if one.file != "data"]


def test_a_masked_run_is_sound_and_its_sum_is_replayed(closed):
    for client in "abd":
        closed.unmask(client)
    assert problems(closed.run) == []
    closed.aggregate()
    assert problems(closed.run) == []
    replayed = verify(closed.run.root, replay=UserCode())
    assert replayed.sound
    (again,) = [one for one in replayed.parts if one.what == "aggregated again"]
    assert (again.files, again.sound) == (1, 1)
    kinds = {one.what: one.files for one in replayed.parts}
    assert (kinds["updates"], kinds["shares and answers"], kinds["partial means"]) == (3, 7, 1)


@pytest.mark.parametrize(
    "name",
    ["updates/a.safetensors", "updates/a.shares", "survivors.json", "unmask/b.json",
     "sum.safetensors"],
)  # fmt: skip
def test_verify_names_a_changed_file(closed, name):
    for client in "abc":
        closed.unmask(client)
    closed.aggregate()
    path = closed.round.path / name
    flip(path, 8 * (path.stat().st_size - 40))
    assert (f"rounds/0001/{name}", "changed") in problems(closed.run)


def test_another_sum_is_found_by_replaying(closed):
    """A coordinator that writes another sum, and a model of it, is told from the updates."""
    for client in "abc":
        closed.unmask(client)
    closed.aggregate()
    with Checkpoint(closed.round.masked_sum, Kind.PARTIAL) as total:
        tensors, described = total.tensors(), total.metadata
    closed.round.global_model.unlink()
    save(closed.round.masked_sum, {n: v + 0.5 for n, v in tensors.items()}, described)
    with monkeypatched_sum():
        closed.aggregate()
    assert problems(closed.run) == []
    found = verify(closed.run.root, replay=UserCode()).findings
    assert "sum.safetensors" in str([one for one in found if one.wrong])


@contextmanager
def monkeypatched_sum() -> Iterator[None]:
    """Leave the sum in the run as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedcli.aggregation.masked_request.open_sum", lambda *_: None)
        yield


def shown_status(run: Run, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert execute(["status", "--run", str(run.root)]) == 0
    return capsys.readouterr().out


def test_status_says_what_to_type_in_each_phase(tmp_path, capsys):
    made = masked_run(tmp_path)
    run = made.run
    for client in "abcd":
        assert client in status(run).missing
        made.train(client)
    now = status(run)
    assert (now.delivered, now.refused) == (MEMBERS, ())
    assert now.next == run.command("aggregate --close --key FILE")
    made.close()
    assert status(run).next == run.command("unmask --id a --key FILE")
    made.unmask("a")
    masked = status(run).masked
    assert masked is not None
    assert (masked.answered, masked.waiting, masked.needed) == (("a",), ("b", "c", "d"), 3)
    assert "to answer   b, c, d" in shown_status(run, capsys)
    made.unmask("b")
    made.unmask("c")
    assert status(run).next == run.command("aggregate --key FILE")
    assert "to answer" not in shown_status(run, capsys)
    made.aggregate()
    assert status(run, 1).masked is not None


def test_status_tells_each_member_what_it_has_to_type(delivered):
    """Members whose data lies elsewhere each have a command of their own, in either phase."""
    run = delivered.run
    for client in MEMBERS:
        run.client_shard(client).unlink()
    (step,) = status(run).at_clients
    assert (step.client, step.command) == (
        "d",
        run.command("train-client --id d --data PATH --key FILE"),
    )
    assert status(run).at_coordinator == run.command("aggregate --close --key FILE")
    delivered.close()
    delivered.unmask("b")
    steps = {one.client: one.command for one in status(run).at_clients}
    assert steps == {c: run.command(f"unmask --id {c} --key FILE") for c in "acd"}


def test_status_refuses_a_damaged_update(delivered):
    flip(delivered.round.update("b"), 8 * 2000)
    now = status(delivered.run)
    assert [one.client for one in now.refused] == ["b"]
    assert now.delivered == ("a", "c")


def test_updates_are_not_scored_and_can_be_inspected(delivered):
    with pytest.raises(UsageError, match="updates of this run are masked; only their sum"):
        update_models(StateStore(delivered.run), 1, ["a"])
    assert inspect(delivered.round.update("a")).metadata["encoding"]["name"] == "mask"


def test_gc_removes_what_opened_old_sums(tmp_path):
    made = masked_run(tmp_path)
    made.finish()
    for client in "abc":
        made.train(client)
    made.close()
    for client in "abc":
        made.unmask(client)
    made.aggregate()
    gc(made.run, 1)
    left = {path.name for path in made.round.path.rglob("*") if path.is_file()}
    assert not {"sum.safetensors", "a.shares", "a.safetensors"} & left
    assert {"survivors.json", "global.safetensors"} <= left
    assert made.run.round(2).masked_sum.exists()


def test_errors_are_one_line_and_name_a_file(closed):
    faults: list[FedcliError] = []
    closed.round.shares("b").unlink()
    for what in (lambda: closed.unmask("a"), closed.aggregate):
        with pytest.raises(NotReadyError) as caught:
            what()
        faults.append(caught.value)
    assert all("b.shares: no such file" in fault.message for fault in faults)
    assert not any("\n" in fault.message for fault in faults)
    closed.round.update("b").unlink()
    with pytest.raises((UpdateError, NotReadyError)):
        closed.aggregate()
