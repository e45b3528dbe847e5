"""Run many rounds by launching the other steps, each as its own process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedcli.errors import UsageError
from fedcli.execution.engines import engines_at
from fedcli.execution.launching import Steps
from fedcli.execution.masked_round import MaskedScheduler
from fedcli.execution.pace import Pace
from fedcli.execution.place import Place
from fedcli.execution.scheduler import Capacity, ClientScheduler
from fedcli.execution.step_arguments import StepOptions
from fedcli.execution.tree import check_tree, members_of
from fedcli.plan import check_halves
from fedcli.plan.private_training import check_withheld
from fedcli.plan.rule import check_encoding, resolve
from fedcli.plan.secagg import SecaggPlan
from fedcli.plan.stopping import Stopping
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.active_run import RunMarker, forget_killed_run
from fedcli.run.next_command import train_command
from fedcli.run.participation import Invitation
from fedcli.run.quorum import Quorum
from fedcli.run.sampling import sampled_clients
from fedcli.steps.finished_rounds import check_made_with
from fedcli.steps.stopping import EarlyStopping, Stop
from fedcli.strategies import Rule

__all__ = ["StepOptions", "RoundSummary", "RunResult", "run_rounds"]


@dataclass(frozen=True)
class RoundSummary:
    """One finished round; loss and accuracy are None without evaluation."""

    round: int
    clients: int
    loss: float | None
    accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """The result of ``run_rounds``; ``rounds`` is empty if all were complete already.

    ``stopped`` says why the run ended before the last round that was asked for; None if it did not.
    """

    rounds_complete: int
    rounds: tuple[RoundSummary, ...]
    stopped: Stop | None = None


def run_rounds(
    run: Run,
    rounds: int,
    options: StepOptions | None = None,
    *,
    jobs: int | None = None,
    evaluate: bool = True,
    keep_updates: int | None = None,
    stopping: Stopping | None = None,
    place: Place | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Continue a run until ``rounds`` rounds are complete.

    Each round trains its clients, ``jobs`` at a time (None: as many as suit the machine),
    aggregates, and evaluates; complete rounds without evaluation, round 0 among them, are
    evaluated first. Parallel clients share the cores unless a number of threads is given. With
    ``keep_updates``, ``gc`` runs after each round, and before the first, in case it was
    interrupted. ``stopping`` may end the run earlier, by the scores of its rounds alone. ``place``
    says where clients train and models are scored, by default on this machine; aggregation stays
    here.

    Raises ``UsageError`` and ``NotReadyError`` for impossible options, before any client trains,
    ``ConflictError`` if nothing is left to do and the last round was made with other options, and
    what a step reports; the message names the client. An interrupt stops the processes; the
    next call resumes the run.
    """
    place, progress = place or Place(), progress or Silence()
    at = engines_at(place, run.root, (run.info.model.name,), progress.say)
    threads = place.threads
    with Steps(run.root, at.engine, at.here, threads=threads, wait=place.seconds) as steps:
        return launch_rounds(
            steps,
            run,
            rounds,
            options,
            jobs=jobs,
            evaluate=evaluate,
            keep_updates=keep_updates,
            stopping=stopping,
            progress=progress,
        )


def launch_rounds(
    steps: Steps,
    run: Run,
    rounds: int,
    options: StepOptions | None,
    *,
    jobs: int | None,
    evaluate: bool,
    keep_updates: int | None,
    stopping: Stopping | None,
    progress: Progress | None,
    say_clients: bool = True,
) -> RunResult:
    """Do what ``run_rounds`` does, in processes that other runs may share.

    ``progress`` hears of each client that has trained only with ``say_clients``.
    """
    progress, options = progress or Silence(), _with_strategy(run, options or StepOptions())
    rule = _checked_rule(run, options)
    taking_part = _taking_part(run, rule, options, rounds)
    early = EarlyStopping(run, stopping or Stopping(), evaluate=evaluate)
    unscored = _unscored(run, rounds, early) if evaluate else []
    stop = None if unscored else early.decide(rounds)
    if stop or not taking_part:
        check_made_with(run, stop.round if stop else rounds, rule, options)
        taking_part = {}
    if not unscored and not taking_part and keep_updates is None:
        forget_killed_run(run)
        return RunResult(run.latest_round().number, (), stop)
    if rule.weigher.needs_initial_loss:
        options = replace(options, training={"initial_loss": True, **options.training})
    call = _Call(rounds, early, Pace(rounds, may_end_early=early.asked), evaluate, keep_updates)
    progress.start(call.pace.label, len(unscored) + sum(len(c) + 1 for c in taking_part.values()))
    with RunMarker(run, rounds, call.pace.seconds_left), steps:
        steps.connect()
        for number in unscored:
            _evaluate(run, steps, number, options)
            progress.advance()
        _remove_old(steps, keep_updates)
        if unscored and (stop := early.decide(rounds)):
            check_made_with(run, stop.round, rule, options)
            taking_part = {}
        capacity = Capacity(steps, jobs, options)
        capacity.probe(max(map(len, taking_part.values()), default=0))
        scheduler = ClientScheduler(run, steps, capacity, options, progress, say_clients)
        done, ended = call.play(scheduler, taking_part)
    return RunResult(run.latest_round().number, tuple(done), stop or ended)


@dataclass(frozen=True)
class _Call:
    """How one call runs its rounds, up to round ``last``."""

    last: int
    early: EarlyStopping
    pace: Pace
    evaluate: bool
    keep_updates: int | None

    def play(
        self, scheduler: ClientScheduler, taking_part: Mapping[int, list[str]]
    ) -> tuple[list[RoundSummary], Stop | None]:
        """Run rounds with their clients until the last, or until the run ends early."""
        done: list[RoundSummary] = []
        for number, clients in taking_part.items():
            done.append(self._round(scheduler, number, clients))
            _remove_old(scheduler.steps, self.keep_updates)
            scheduler.progress.advance()
            scheduler.progress.say(self._line(done[-1]))
            if stop := self.early.decide(self.last):
                return done, stop
        return done, None

    def _round(self, scheduler: ClientScheduler, number: int, clients: list[str]) -> RoundSummary:
        run, steps, options = scheduler.run, scheduler.steps, scheduler.options
        is_whole = not {*run.round(number).delivered()} & {*clients}
        self.pace.begin(number)
        if run.info.plan.secagg is None:
            delivered = scheduler.train(number, clients)
        else:
            delivered = MaskedScheduler(scheduler).prepare(number, clients)
            options = replace(options, min_clients=None, exclude=())  # the list says who counts
        members = members_of(scheduler, number, clients)
        steps.launch("aggregate", *members, *options.for_aggregation(number))
        scores = _evaluate(run, steps, number, options) if self.evaluate else {}
        seconds = self.pace.finish(counts=is_whole)
        return RoundSummary(number, delivered, scores.get("loss"), scores.get("accuracy"), seconds)

    def _line(self, summary: RoundSummary) -> str:
        line = f"round {summary.round}/{self.last} done"
        if summary.accuracy is not None:
            line += f"  test loss {summary.loss:.4f}  accuracy {summary.accuracy:.1%}"
        left = self.pace.after(summary.round)
        return f"{line}  {summary.seconds:.1f} s" + (f"  {left}" if left else "")


def _with_strategy(run: Run, options: StepOptions) -> StepOptions:
    """Add the strategy that a given algorithm implies."""
    plan = run.info.plan.with_options(options.training, options.aggregation)
    if plan.aggregate.strategy == run.info.plan.aggregate.strategy:
        return options
    strategy = {"strategy": plan.aggregate.strategy}
    return replace(options, aggregation={**options.aggregation, **strategy})


def _checked_rule(run: Run, options: StepOptions) -> Rule:
    """Return the rule. Raises ``UsageError`` for options that a step would reject."""
    plan = run.info.plan.with_options(options.training, options.aggregation)
    rule = resolve(plan.aggregate, options.aggregation.keys())
    check_halves(plan.train, rule.server_optimizer)
    check_encoding(plan.train, plan.aggregate)
    check_withheld(plan.train, rule.weighting)
    if options.fan_out is not None:
        check_tree(run, rule, options)
    if not run.info.clients:
        raise UsageError(
            "this run was made without a list of clients: train each where its data is",
            hint=train_command(run, []),
        )
    for client in run.info.clients:
        if not run.client_shard(client).exists():
            raise UsageError(
                f"client {client}: its data is not in the run, so it trains where its data is",
                hint=train_command(run, [client]),
            )
    return rule


def _taking_part(run: Run, rule: Rule, options: StepOptions, rounds: int) -> dict[int, list[str]]:
    """Return the clients of each remaining round.

    Raises ``UsageError`` and ``NotReadyError`` if a round would have too few of them.
    """
    plan = run.info.plan.aggregate.with_options(options.aggregation)
    excluded = run.choose_clients(options.exclude, "--exclude") if options.exclude else []
    open_round = run.open_round()
    invitation = Invitation(run, open_round, plan, excluded)
    quorum = Quorum.of(invitation, rule, options.min_clients)
    option, needed = (
        ("--buffer", quorum.buffer) if quorum.buffer else ("--min-clients", quorum.least)
    )
    taking_part = {}
    for number in range(open_round.number, rounds + 1):
        drawn = sampled_clients(run.info, number, plan)
        clients = [client for client in drawn if client not in excluded]
        if not clients:
            raise UsageError(f"--exclude: leaves no client of round {number}")
        if run.info.plan.secagg is not None:
            _check_enough(run.info.plan.secagg, number, clients, options.min_clients)
        if needed is not None and needed > len(clients):
            raise UsageError(
                f"{option}: expected at most {len(clients)}, the number of clients that take part"
                f" in round {number}, found {needed}"
            )
        rule.reducer.prepare(len(clients), rule.options)
        taking_part[number] = clients
    return taking_part


def _check_enough(
    secagg: SecaggPlan, number: int, clients: Sequence[str], min_clients: int | None
) -> None:
    """Raise ``UsageError`` if a round could end with fewer clients than open a masked sum."""
    least = secagg.threshold
    if len(clients) < least:
        raise UsageError(
            f"--exclude: leaves {len(clients)} clients of round {number}, and masked updates need"
            f" {least} (--threshold)"
        )
    if min_clients is not None and min_clients < least:
        raise UsageError(
            f"--min-clients: expected at least {least}, found {min_clients}; the sum of fewer"
            " masked updates is not shown (--threshold)"
        )


def _unscored(run: Run, rounds: int, early: EarlyStopping) -> list[int]:
    if early.asked:
        return early.unscored(rounds)
    if not run.has_test_data:
        return []
    complete = [round_ for round_ in run.complete_rounds() if round_.number <= rounds]
    return [round_.number for round_ in complete if not round_.evaluation.exists()]


def _evaluate(run: Run, steps: Steps, number: int, options: StepOptions) -> dict[str, Any]:
    if not run.has_test_data:
        return {}
    round_ = run.round(number)
    needs = (round_.global_model,)
    result = steps.launch("evaluate", *options.for_evaluation(number), needs=needs)
    steps.see([round_.evaluation])
    scores = result["evaluations"][0]  # on all test data; scores on single clients follow
    assert isinstance(scores, dict)
    return scores


def _remove_old(steps: Steps, keep_updates: int | None) -> None:
    if keep_updates is not None:
        steps.launch("gc", "--keep-last", str(keep_updates))
