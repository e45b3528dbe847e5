"""When ``run`` ends before its last round."""

from dataclasses import dataclass

from fedcli.options import check, option

SCORES = (
    *("accuracy", "balanced_accuracy", "macro_f1", "auc", "sensitivity", "specificity", "loss"),
)
_PANEL = "Stopping early"


@dataclass(frozen=True)
class Stopping:
    """The scores at which ``run`` ends early; without ``stop_after`` and ``target``, none."""

    stop_after: int | None = option(
        None,
        "Stop after N rounds in a row without a better score than before.",
        "N",
        _PANEL,
        at_least=1,
        unset="never",
    )
    target: float | None = option(
        None, "Stop as soon as the score reaches X, such as 0.8.", "X", _PANEL, unset="never"
    )
    metric: str | None = option(
        None,
        "The score that `--stop-after` and `--target` go by: `accuracy`, `balanced_accuracy`,"
        " `macro_f1`, `auc`, `sensitivity`, `specificity` or `loss`.",
        "NAME",
        _PANEL,
        names=lambda: SCORES,
        unset="`accuracy`",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        check(self)

    @property
    def typed(self) -> str | None:
        """The first of its options that asks for an early end, as typed; None if none does."""
        given = {"--stop-after": self.stop_after, "--target": self.target}
        return next((words for words, value in given.items() if value is not None), None)
