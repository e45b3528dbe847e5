"""What files tell of the privacy that was spent."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian
from support.small_runs import small_run

from fedcli.cli import execute
from fedcli.errors import BadInputError, UsageError
from fedcli.formats.ledger import LedgerEntry
from fedcli.formats.manifest import Manifest
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.privacy import epsilon_at
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
from fedcli.run.spending import Source, privacy_status
from fedcli.security.noise_key import write_noise_key
from fedcli.steps.train_client import train_client

PLAN = TrainPlan(
    epochs=2, batch_size=64, dp="example", clip=0.5, noise_multiplier=4.0, delta=1e-4, max_epsilon=9
)
DELTA = 1e-4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Client 0 has trained round 1, client 1 nothing."""
    folder = tmp_path_factory.mktemp("spent")
    run = small_run(folder / "fedrun", Plan(train=PLAN), clients=("0", "1"))
    key = write_noise_key(folder / "key", outside=run.root).path
    train_client(run, ["0"], noise_key=key, execution=Execution(threads=1))
    return run.root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    shutil.copytree(trained, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


def test_each_client_has_its_own_epsilon_and_the_largest_is_that_of_all(run: Run) -> None:
    found = privacy_status(run)
    assert found is not None
    first, second = found.examples
    once, twice = (epsilon_at([gaussian(4, 2)] * n, DELTA) for n in (1, 2))
    assert (first.client, first.source, first.steps, first.limit) == ("0", Source.LEDGER, 1, 9)
    assert (first.epsilon, first.next_epsilon) == pytest.approx((once, twice), rel=1e-9)
    assert (second.client, second.steps, second.epsilon) == ("1", 0, 0)
    assert second.next_epsilon == pytest.approx(once, rel=1e-9)
    assert found.largest == first.epsilon
    assert found.clients is None


def test_a_ledger_counts_other_runs_and_another_delta(run: Run) -> None:
    store = LedgerStore(run)
    (entry,) = store.read("0").entries
    store.add("0", replace(entry, run="another", event=gaussian(1)))
    found = privacy_status(run, delta=1e-6)
    assert found is not None
    spent = epsilon_at([gaussian(4, 2), gaussian(1)], 1e-6)
    assert found.examples[0].epsilon == pytest.approx(spent, rel=1e-9)
    assert found.examples[0].delta == 1e-6
    for delta in (0.0, 1.0):
        with pytest.raises(UsageError, match="delta: expected more than 0"):
            privacy_status(run, delta=delta)


def test_a_coordinator_sees_what_updates_say(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    LedgerStore(run).path("0").parent.rename(tmp_path / "own" / "privacy")
    found = privacy_status(run)
    assert found is not None
    assert found.examples[0].source == Source.UPDATES
    here = found.examples[0].epsilon
    own = privacy_status(run, directory=tmp_path / "own")
    assert own is not None
    assert (own.examples[0].source, own.examples[0].epsilon) == (Source.LEDGER, here)


def test_what_has_no_bound_is_no_number(run: Run) -> None:
    store = LedgerStore(run)
    (entry,) = store.read("0").entries
    store.add("0", replace(entry, event=replace(gaussian(0), clip=None)))
    found = privacy_status(run)
    assert found is not None
    assert (found.examples[0].epsilon, found.largest) == (None, None)


def test_sums_over_clients_are_one_budget(tmp_path: Path) -> None:
    rule = AggregatePlan(update_noise=5.0, update_clip=1.0, update_max_epsilon=3, update_delta=1e-5)
    run = small_run(tmp_path / "fedrun", Plan(aggregate=rule))
    for number in range(11):
        spent = epsilon_at([gaussian(5, number)], 1e-5) if number else 0.0
        found = privacy_status(run)
        assert found is not None
        assert found.clients is not None
        assert (found.examples, found.largest) == ((), None)
        assert found.clients.epsilon == pytest.approx(spent, rel=1e-9)
        assert found.clients.next_epsilon == pytest.approx(
            epsilon_at([gaussian(5, number + 1)], 1e-5), rel=1e-9
        )
        assert (found.clients.steps, found.clients.limit) == (number, 3)
        entry = LedgerEntry(run.id, number + 1, 1, "a" * 64, gaussian(5))
        _manifest(run, number + 1, entry)


def _manifest(run: Run, number: int, entry: LedgerEntry) -> None:
    Manifest(
        round=number,
        strategy="fedavg",
        reduce="mean",
        server_optimizer="none",
        weighting="uniform",
        options={},
        base="",
        global_model="",
        server_state=None,
        sampled=None,
        accepted=(),
        partials=(),
        missing=(),
        late=(),
        rejected=(),
        seconds=0.0,
        privacy=(entry,),
    ).write(run.round(number).manifest)


def test_a_broken_ledger_ends_it(run: Run) -> None:
    LedgerStore(run).path("0").write_text("{")
    with pytest.raises(BadInputError, match=r"privacy/0\.json"):
        privacy_status(run)


def test_nothing_is_private_without_a_plan_for_it(tmp_path: Path) -> None:
    assert privacy_status(small_run(tmp_path / "fedrun")) is None


def test_the_command_shows_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["status", "--run", str(run.root)]
    assert execute([*words, "--privacy"]) == 0
    out = capsys.readouterr().out
    once = epsilon_at([gaussian(4, 2)], DELTA)
    assert f"in all, each example: ε = {once:.3f}, as of its client" in out
    for more, said in (
        (["--privacy", "--watch"], "--privacy: cannot be combined"),
        (["--delta", "1e-5"], "--delta: belongs to --privacy"),
        (["--state", "folder"], "--state: belongs to --privacy"),
    ):
        assert execute([*words, *more]) == 2
        assert said in capsys.readouterr().err


def test_the_status_needs_no_torch(run: Run) -> None:
    program = (
        "import sys; from fedcli.cli import execute;"
        f"execute(['status', '--privacy', '--json', '--run', {str(run.root)!r}]);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
