"""Do many rounds by launching the other steps, each as a process of its own."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

from fedcli.advice import train_command
from fedcli.cores import available_cores
from fedcli.errors import FedcliError, UsageError
from fedcli.participation import Invitation, Quorum
from fedcli.plan import updated
from fedcli.processes import Steps
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.sampling import sampled_clients
from fedcli.strategies import Rule, resolve


@dataclass(frozen=True)
class Options:
    """What ``run_rounds`` passes on to the steps; None leaves it to the plan or the machine.

    ``training`` holds hyper-parameters by their names in ``TrainPlan``, ``aggregation`` options by
    theirs in ``AggregatePlan``. Clients in ``exclude`` neither train nor count. With
    ``min_clients`` a round goes on when that many have delivered, even if others failed.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    aggregation: Mapping[str, Any] = field(default_factory=dict)
    min_clients: int | None = None
    exclude: Sequence[str] = ()
    device: str = "auto"
    threads: int | None = None
    seed: int | None = None
    own_model: str | None = None


@dataclass(frozen=True)
class RoundSummary:
    """One round that was done; loss and accuracy are None without evaluation."""

    round: int
    clients: int
    loss: float | None
    accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What ``run_rounds`` did; ``rounds`` is empty when all of them were there already."""

    rounds_complete: int
    rounds: tuple[RoundSummary, ...]


def run_rounds(
    run: Run,
    rounds: int,
    options: Options | None = None,
    *,
    jobs: int = 1,
    evaluate: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Go on until ``rounds`` rounds are complete, from where the directory stands.

    Each round trains the clients that take part in it, ``jobs`` at a time, aggregates, and
    evaluates; rounds that are complete but were not evaluated are evaluated first. With several
    clients at a time and no number of threads, each gets its share of the cores.

    Raises ``UsageError`` and ``NotReadyError`` for what no round can do, before any client trains,
    and what a step reports; the message names the client. An interrupt
    stops the processes; the next call goes on from there.
    """
    progress, options = progress or Silence(), options or Options()
    rule = _checked_rule(run, options)
    taking_part = _taking_part(run, rule, options, rounds)
    if rule.weigher.needs_initial_loss:
        options = replace(options, training={"initial_loss": True, **options.training})
    unscored = _unscored(run, rounds) if evaluate else []
    steps = Steps(run.root, _environment(jobs, options.threads))
    done = []
    total = len(unscored) + sum(len(clients) + 1 for clients in taking_part.values())
    progress.start("rounds", total)
    try:
        for number in unscored:
            _evaluate(run, steps, number, options)
            progress.advance()
        for number, clients in taking_part.items():
            started = time.monotonic()
            delivered = _train_clients(run, steps, number, clients, jobs, options, progress)
            steps.launch("aggregate", *_aggregate_arguments(number, options))
            scores = _evaluate(run, steps, number, options) if evaluate else {}
            done.append(
                RoundSummary(
                    number,
                    delivered,
                    scores.get("loss"),
                    scores.get("accuracy"),
                    time.monotonic() - started,
                )
            )
            progress.advance()
            progress.say(_line(done[-1], rounds))
    except BaseException:
        steps.stop()
        raise
    return RunResult(run.latest_round().number, tuple(done))


def _checked_rule(run: Run, options: Options) -> Rule:
    """Return the rule. Raises ``UsageError`` for options that no step would accept."""
    updated(run.info.plan.train, options.training)
    plan = run.info.plan.aggregate.with_options(options.aggregation)
    rule = resolve(plan, options.aggregation.keys())
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


def _taking_part(run: Run, rule: Rule, options: Options, rounds: int) -> dict[int, list[str]]:
    """Return the clients of each round that is to be done.

    Raises ``UsageError`` and ``NotReadyError`` where a round would end with too few of them.
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
        if needed is not None and needed > len(clients):
            raise UsageError(
                f"{option}: expected at most {len(clients)}, the number of clients that take part"
                f" in round {number}, found {needed}"
            )
        rule.reducer.prepare(len(clients), rule.options)
        taking_part[number] = clients
    return taking_part


def _unscored(run: Run, rounds: int) -> list[int]:
    if not run.test_shard.exists():
        return []
    complete = [round_ for round_ in run.complete_rounds() if 0 < round_.number <= rounds]
    return [round_.number for round_ in complete if not round_.evaluation.exists()]


def _environment(jobs: int, threads: int | None) -> dict[str, str]:
    """Share the cores among the clients, where nobody says how: a default, not a decision."""
    if jobs == 1 or threads is not None or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, available_cores() // jobs))}


def _line_of(options: Mapping[str, Any]) -> list[str]:
    """Write options as a command line, without those that are None."""
    line = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            text = ",".join(value) or "none" if isinstance(value, tuple) else str(value)
            line += [f"--{option}", text]
    return line


def _machine_arguments(options: Options) -> list[str]:
    return _line_of(
        {"device": options.device, "threads": options.threads, "model": options.own_model}
    )


def _aggregate_arguments(number: int, options: Options) -> list[str]:
    exclude = tuple(options.exclude) or None
    return _line_of(
        {
            "round": number,
            **options.aggregation,
            "min_clients": options.min_clients,
            "exclude": exclude,
        }
    )


def _train_clients(
    run: Run,
    steps: Steps,
    number: int,
    clients: Sequence[str],
    jobs: int,
    options: Options,
    progress: Progress,
) -> int:
    """Train the clients of a round and return how many delivered."""
    arguments = _line_of({"round": number, **options.training, "seed": options.seed})
    arguments += _machine_arguments(options)
    failures: list[FedcliError] = []
    with ThreadPoolExecutor(jobs) as pool:
        pending = {
            pool.submit(steps.launch, "train-client", "--id", client, *arguments): client
            for client in clients
        }
        try:
            for future in as_completed(pending):
                error = _report(future, pending[future], number, progress)
                if error is not None:
                    failures.append(_named(error, run, pending[future], number))
                    if options.min_clients is None:
                        raise failures[0]
                    progress.say(failures[-1].message)
        except BaseException:
            steps.stop()  # before the pool waits for its threads, which wait for the processes
            raise
    if len(clients) - len(failures) < (options.min_clients or 0):
        raise failures[0]
    return len(clients) - len(failures)


def _report(
    future: Future[dict[str, Any]], client: str, number: int, progress: Progress
) -> FedcliError | None:
    """Say how a client did; return the error that it ended with."""
    progress.advance()
    error = future.exception()
    if isinstance(error, FedcliError):
        return error
    (trained,) = future.result()["clients"]
    if trained["already_done"]:
        progress.say(f"round {number}  client {client}  already trained")
    else:
        last = trained["epochs"][-1]
        progress.say(
            f"round {number}  client {client}  loss {last['loss']:.4f}"
            f"  accuracy {last['accuracy']:.1%}  {trained['seconds']:.1f} s"
        )
    return None


def _named(error: FedcliError, run: Run, client: str, number: int) -> FedcliError:
    """Say which client it was, and how to see the failure alone."""
    alone = train_command(run, [client], number)
    hint = f"{error.hint}; alone: {alone}" if error.hint else f"alone: {alone}"
    return type(error)(f"client {client}, round {number}: {error.message}", hint=hint)


def _evaluate(run: Run, steps: Steps, number: int, options: Options) -> dict[str, Any]:
    if not run.test_shard.exists():
        return {}
    result = steps.launch("evaluate", "--round", str(number), *_machine_arguments(options))
    (scores,) = result["evaluations"]
    assert isinstance(scores, dict)
    return scores


def _line(summary: RoundSummary, rounds: int) -> str:
    line = f"round {summary.round}/{rounds} complete"
    if summary.accuracy is not None:
        line += f"  test loss {summary.loss:.4f}  accuracy {summary.accuracy:.1%}"
    return f"{line}  {summary.seconds:.1f} s"
