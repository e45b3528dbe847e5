"""The model card: what is known of an exported model, as Markdown.

Mitchell et al. 2019, "Model Cards for Model Reporting", is where the idea is from. What nobody can
know from the files of a run, such as what the model is fit for, is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcli.exporting.commands import commands
from fedcli.exporting.history import Link, Made, clients_of, stretches
from fedcli.formats.evaluation import Score
from fedcli.formats.partition import PartitionFile
from fedcli.reporting.markdown import escape
from fedcli.reporting.rules import rule_label
from fedcli.reporting.words import rounds_named
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.text import printable

_MOST_CLIENTS = 100  # that are listed one by one

Row = tuple[object, ...]


@dataclass(frozen=True)
class Exported:
    """The file that was exported, and the model in the run that it was made from.

    ``format`` is ``safetensors``, ``torch`` or ``onnx``; ``merged`` says whether adapters of LoRA
    went into the weights, ``numbers`` counts those in all of its tensors. ``versions``
    are those of programs that wrote the file.
    """

    name: str
    format: str
    sha256: str
    bytes: int
    round: int
    model_sha256: str
    merged: bool
    tensors: int
    numbers: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """What the run tells of the model: ``scores`` are of this very model."""

    run: Run
    rounds: Sequence[Made]
    chain: Sequence[Link]
    scores: Sequence[Score]
    partition: PartitionFile | None


def card(exported: Exported, facts: Facts) -> str:
    """Return the card as Markdown that ends with a newline."""
    title = exported.name.rpartition(".")[0]
    parts = [
        f"# {_text(title)}",
        f"The global model of round {exported.round} of a federation, exported by fedcli. All that"
        " stands here was read from the files of the run.",
        *_section("Model", _model(exported, facts.run.info)),
        *_section("Scores", _scores(facts)),
        *_section("Data", _data(facts)),
        *_section("Training", _training(facts)),
        *_section("Clients", _clients(facts)),
        *_section("Files", _files(exported, facts.run)),
        *_section("Chain of global models", _chain(facts)),
        *_section("Command lines", _commands(facts)),
        *_section("Versions", [_table(("program", "version"), list(exported.versions.items()))]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"## {title}", *parts] if parts else []


def _text(value: object) -> str:
    return escape(printable(str(value)))


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([one if one == "---" else _text(one) for one in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _model(exported: Exported, info: RunInfo) -> list[str]:
    dataset, model = info.dataset, info.model
    network = model.name
    if model.name == "resnet18":
        network += f", stem {model.stem}, norm {model.norm}"
    if model.lora is not None:
        network += f", trained with LoRA of rank {model.lora} (scale {model.lora_scale:g})"
    rows: list[Row] = [
        ("network", network),
        ("size", f"{exported.numbers} numbers in {exported.tensors} tensors"),
        ("input", f"{dataset.dtype}, shape (N, {', '.join(map(str, dataset.shape))})"),
        ("normalisation", _normalisation(exported, info)),
        ("output", f"logits, shape (N, {len(dataset.classes)}), one a class"),
    ]
    if exported.merged:
        rows.insert(1, ("adapters", "merged into the weights: W + (α / r) B A, rounded once"))
    classes = [(number, name) for number, name in enumerate(dataset.classes)]
    return [_table(("what", "value"), rows), _table(("output", "class"), classes)]


def _normalisation(exported: Exported, info: RunInfo) -> str:
    dataset = info.dataset
    if dataset.dtype != "uint8":
        return "none: values are used as they are"
    mean, std = (", ".join(f"{value:g}" for value in of) for of in (dataset.mean, dataset.std))
    formula = f"(x / 255 - mean) / std of pixels x from 0 to 255, mean {mean}, std {std}"
    if len(dataset.mean) > 1:
        formula += " (red, green, blue)"
    if exported.format == "onnx":
        return f"in the graph, which takes the pixels: {formula}"
    grey = dataset.shape[0] == 1 and info.model.name not in ("cnn", "linear")
    repeated = "; the grey channel is then repeated three times" if grey else ""
    return f"before the network: {formula}{repeated}"


def _scores(facts: Facts) -> list[str]:
    if not facts.scores:
        return ["This model was not evaluated in the run."]
    columns = ("examples of", "number", "loss", "accuracy", "balanced accuracy", "macro F1", "AUC")
    rows = [
        (_scored_on(score), score.examples, *map(_figure, _figures(score)))
        for score in facts.scores
    ]
    parts = [_table(columns, rows)]
    for score in facts.scores:
        if score.data == "test" and score.data_client is None and score.classes is None:
            by_class = [
                (one.name, one.examples, _figure(one.accuracy), _figure(one.f1))
                for one in score.per_class
            ]
            parts.append(_table(("class", "examples", "accuracy", "F1"), by_class))
    return parts


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _figures(score: Score) -> tuple[float | None, ...]:
    return score.loss, score.accuracy, score.balanced_accuracy, score.macro_f1, score.auc


def _scored_on(score: Score) -> str:
    whose = "" if score.data_client is None else f" of client {score.data_client}"
    only = "" if score.classes is None else f", only {', '.join(score.classes)}"
    names = {
        "test": "the run's test set",
        "client-test": "the test set",
        "validation": "those held out",
    }
    return f"{names.get(score.data, score.data)}{whose}{only}"


def _data(facts: Facts) -> list[str]:
    info = facts.run.info
    origin = info.origin
    rows: list[Row] = [("data set", info.dataset.name)]
    rows += [(key.replace("_", " "), value) for key, value in origin.get("data", {}).items()]
    if origin.get("step") != "partition":
        return [
            _table(("what", "value"), rows),
            "Every client trained on data of its own, of which nothing is in the run but the number"
            " of examples.",
        ]
    cut = ", ".join(
        f"{key.replace('_', ' ')} {_plain(value)}" for key, value in origin["parameters"].items()
    )
    rows.append(("cut into clients", f"{origin['scheme']}: {cut}"))
    if origin.get("val_fraction"):
        rows.append(("held out of each client", origin["val_fraction"]))
    if facts.partition is not None:
        examples = sum(map(sum, facts.partition.label_counts.values()))
        rows += [
            ("training examples", examples),
            ("test examples", sum(facts.partition.test_label_counts)),
        ]
    return [_table(("what", "value"), rows)]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _training(facts: Facts) -> list[str]:
    rows = []
    for stretch in stretches(list(facts.rounds)):
        made = stretch[-1]
        counts = sorted({one.clients for one in stretch if one.clients is not None})
        clients = (
            "–"
            if not counts
            else f"{counts[0]}"
            if len(counts) == 1
            else f"{counts[0]}–{counts[-1]}"
        )
        rule = "–" if made.manifest is None else rule_label(made.manifest)
        rounds = rounds_named(one.round for one in stretch).partition(" ")[2]
        rows.append(
            (rounds, rule, "; or ".join(_trainings(made)) or "not in the run any more", clients)
        )
    if not rows:
        return []
    return [_table(("rounds", "rule", "training of clients", "clients a round"), rows)]


def _trainings(made: Made) -> Iterator[str]:
    for training in made.trainings:
        yield ", ".join(
            f"{key.replace('_', ' ')} {_plain(value)}" for key, value in sorted(training.items())
        )


def _clients(facts: Facts) -> list[str]:
    clients = clients_of(list(facts.rounds))
    if not clients:
        return []
    if len(clients) > _MOST_CLIENTS:
        sizes = [examples for _, examples in clients.values()]
        return [
            f"{len(clients)} clients took part, with {min(sizes)} to {max(sizes)} examples each,"
            f" {sum(sizes)} in all."
        ]
    rows = [(client, examples, rounds) for client, (rounds, examples) in clients.items()]
    return [_table(("client", "examples", "rounds"), rows)]


def _files(exported: Exported, run: Run) -> list[str]:
    rows = [
        ("exported file", exported.name),
        ("format", exported.format),
        ("bytes", exported.bytes),
        ("SHA-256 of the exported file", exported.sha256),
        ("SHA-256 of the global model in the run", exported.model_sha256),
        ("id of the run", run.id),
    ]
    if run.info.coordinator is not None:
        rows.append(("signed by the coordinator", run.info.coordinator))
    rows += [
        (f"updates of client {client} are signed by", key)
        for client, key in run.info.members.items()
    ]
    return [_table(("what", "value"), rows)]


def _chain(facts: Facts) -> list[str]:
    clients = {made.round: made.clients for made in facts.rounds}
    rows = [
        (
            link.round,
            link.sha256 or "not in the run any more",
            clients.get(link.round) or "–",
        )
        for link in facts.chain
    ]
    return [
        "Each global model names the SHA-256 of the one that it was made from, and of the updates."
        " `fedcli verify` checks them in the run.",
        _table(("round", "SHA-256 of the global model", "updates"), rows),
    ]


def _commands(facts: Facts) -> list[str]:
    lines = commands(facts.run, facts.rounds)
    return [
        "These make the same run, and on the same kind of machine with the same versions the same"
        " bytes, as far as the files tell; paths are not in them.",
        "```sh\n" + "\n".join(lines) + "\n```",
    ]
