"""The cases of a sweep: products, explicit cases, what wins, and what is refused."""

from typing import Any

import pytest

from fedcli.errors import UsageError
from fedcli.experiment.cases import Case, expand
from fedcli.experiment.names import case_names
from fedcli.experiment.sweep import sweep_sections

BASE = {"train": {"lr": 0.1}, "partition": {"clients": 4}, "run": {"rounds": 2}}


def cases(sweep: dict[str, Any], typed: Any = None) -> tuple[Case, ...]:
    return expand(BASE, sweep, sweep_sections(), "e.toml", typed or {})


def names(sweep: dict[str, Any], typed: Any = None) -> list[str]:
    return [case.name for case in cases(sweep, typed)]


def refused(sweep: dict[str, Any], typed: Any = None) -> str:
    with pytest.raises(UsageError) as caught:
        cases(sweep, typed)
    assert "\n" not in caught.value.message
    return f"{caught.value.message} [{caught.value.hint}]"


def test_lists_are_multiplied_and_the_last_varies_fastest() -> None:
    found = cases({"algorithm": ["fedavg", "fedprox"], "alpha": [0.1, 0.5], "seed": "0-2"})
    assert len(found) == 12
    assert [case.name for case in found[:4]] == [
        "fedavg-alpha0.1-seed0",
        "fedavg-alpha0.1-seed1",
        "fedavg-alpha0.1-seed2",
        "fedavg-alpha0.5-seed0",
    ]
    assert found[-1].settings == {
        "train": {"lr": 0.1, "algorithm": "fedprox"},
        "partition": {"clients": 4, "alpha": 0.5},
        "run": {"rounds": 2, "seed": 2},
    }
    assert found[-1].chosen == {"train.algorithm": "fedprox", "partition.alpha": 0.5, "run.seed": 2}


def test_what_belongs_together_stands_in_a_case() -> None:
    explicit = [{"algorithm": "fedavg"}, {"algorithm": "fedprox", "mu": 1}]
    found = cases({"case": explicit, "seed": [0, 1]})
    assert [case.name for case in found] == [
        "fedavg-seed0",
        "fedavg-seed1",
        "fedprox-mu1-seed0",
        "fedprox-mu1-seed1",
    ]
    assert "mu" not in found[0].settings["train"]
    assert found[2].settings["train"] == {"lr": 0.1, "algorithm": "fedprox", "mu": 1.0}


def test_a_file_without_sweep_is_one_case() -> None:
    (only,) = cases({})
    assert (only.name, only.settings, only.chosen) == ("run", BASE, {})


def test_a_key_may_name_its_section() -> None:
    assert names({"train.lr": [0.1, 1]}) == names({"train": {"lr": [0.1, 1]}}) == ["lr0.1", "lr1"]
    assert cases({"train.lr": [0.5]})[0].settings["train"]["lr"] == 0.5


def test_options_win_over_the_file() -> None:
    sweep = {"algorithm": ["fedavg", "fedprox"], "seed": [0, 1]}
    assert names(sweep, {"train": {"algorithm": ["scaffold"]}}) == [
        "scaffold-seed0",
        "scaffold-seed1",
    ]
    (first, *_) = cases(sweep, {"train": {"lr": [0.7]}, "partition": {"alpha": [0.1, 0.5]}})
    assert first.name == "fedavg-seed0-alpha0.1"
    assert first.settings["train"]["lr"] == 0.7
    assert "train.lr" not in first.chosen


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"algorithm": "fedavg"}, "e.toml: [sweep] algorithm: expected a list of values"),
        ({"alpha": 0.5}, "a value that all runs share belongs in [partition]"),
        ({"lr": []}, "[sweep] lr: expected at least one value"),
        ({"lr": [0.1, "x"]}, "[sweep] lr: expected float, found 'x'"),
        ({"lr": [0.1, -1]}, "[sweep] lr: expected a number above 0, found -1"),
        ({"algorithm": ["fedvag"]}, "unknown value 'fedvag'"),
        (
            {"algoritm": ["fedavg"]},
            "[sweep] has an unknown key 'algoritm' [did you mean algorithm?]",
        ),
        ({"jobs": [1, 2]}, "[sweep] has an unknown key 'jobs'"),
        ({"lr": [0.1, 0.1]}, "the same case twice: lr 0.1"),
        ({"lr": [0.1], "train": {"lr": [1]}}, "train.lr is there twice"),
        ({"seed": "0-"}, "[sweep] seed: expected numbers such as 0-2 or 0,1,5, found '0-'"),
        ({"seed": "2-0"}, "2-0 is not a range"),
        ({"seed": "0-99999999999"}, "0-99999999999 is not a range"),
        ({"seed": "0-999", "lr": [0.1, 1], "mu": [0, 1, 2, 3, 4, 5]}, "12000 cases, expected"),
        ({"augment": ["flip"]}, "[sweep] augment: each value is a list itself, found 'flip'"),
        ({"case": {"lr": 1}}, "expected [[sweep.case]], with two brackets"),
        ({"case": [1]}, "case 1: expected a table, found 1"),
        ({"case": [{}]}, "case 1 is empty"),
        ({"case": [{"lr": [0.1]}]}, "case 1 lr: expected float"),
        ({"case": [{"lr": 1}], "lr": [1]}, "case 1 has lr, which is also given for all cases"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(sweep: dict[str, Any], said: str) -> None:
    assert said in refused(sweep)


def test_all_faults_are_said_at_once() -> None:
    said = refused({"lr": [], "see": [1], "mu": ["x"], "case": [{"q": 1, "clents": 2}, {}]})
    assert said == (
        "e.toml: 5 faults: [sweep]: case 1 has an unknown key 'clents' (did you mean clients?);"
        " [sweep]: case 2 is empty;"
        " [sweep] lr: expected at least one value, found an empty list;"
        " [sweep] has an unknown key 'see' (did you mean seed?);"
        " [sweep] mu: expected float, found 'x' [None]"
    )


def test_an_option_for_all_contradicts_a_case() -> None:
    assert "case 1 has mu" in refused(
        {"case": [{"algorithm": "fedprox", "mu": 1}]}, {"train": {"mu": [0.1]}}
    )


def test_names_are_safe_distinct_and_do_not_depend_on_the_others() -> None:
    odd = [{"dataset": "imagefolder:/a/b c/ü"}, {"lr": 1e-05}, {"freeze": ("conv1", "a.*")}]
    assert case_names(odd) == ["_", "lr1e-05", "freeze-conv1+a._"]
    assert case_names([{"augment": ()}, {"download": False}, {"lr": 1.0}]) == [
        "augment-none",
        "no-download",
        "lr1",
    ]
    alike = case_names([{"dataset": "npz:a/x.npz"}, {"dataset": "npz:b/X.npz"}, {"seed": 1}])
    assert len({name.casefold() for name in alike}) == 3
    assert alike[2] == "seed1"
    (long,) = case_names([{"local_layers": tuple(f"layer{n}" for n in range(99))}])
    assert len(long) < 120
