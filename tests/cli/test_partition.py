"""``fedcli partition`` as its users call it."""

import json

import pytest
from support.runs import fedcli

from fedcli.cli.options.building import make_scheme
from fedcli.cli.options.groups import typed
from fedcli.errors import UsageError
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.partitioning.schemes import Scheme, scheme_options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Scheme("iid")),
        ({"clients": 7}, Scheme("iid", 7)),
        ({"labels": ["0, 1", "2"]}, Scheme("labels", labels=(("0", "1"), ("2",)))),
        ({"alpha": 0.1}, Scheme("dirichlet", alpha=0.1)),
        ({"scheme": "dirichlet", "clients": 4}, Scheme("dirichlet", 4)),
        ({"balance": True, "min_size": 5}, Scheme("dirichlet", balance=True, min_size=5)),
        ({"sizes": "100, 200,700"}, Scheme("quantity", sizes=(100, 200, 700))),
        ({"angles": "0,22.5"}, Scheme("feature-rotate", angles=(0.0, 22.5))),
        (
            {"quantity": "square", "alpha": 1.0},
            Scheme("inner-dirichlet", alpha=1.0, quantity="square"),
        ),
    ],
)
def test_the_scheme_follows_from_its_options(options, expected):
    assert make_scheme(typed(scheme_options(), dict(options))) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "iid", "alpha": 0.5},
        {"scheme": "iid", "labels": ["0"]},
        {"scheme": "labels"},
        {"scheme": "labels", "labels": ["0"], "min_size": 2},
        {"labels": ["0"], "clients": 2},
        {"labels": ["0"], "alpha": 0.5},
        {"sizes": "100,many"},
        {"sizes": ""},
        {"angles": "0;90"},
    ],
)
def test_options_that_do_not_go_together_are_refused(options):
    with pytest.raises(UsageError, match="--"):
        make_scheme(typed(scheme_options(), dict(options)))


def test_a_session(tmp_path):
    options = ("--labels", "disc,1", "--labels", "2,3", "--limit", 100, "--model", "linear")
    first = fedcli("partition", *options, cwd=tmp_path)
    assert first.status == 0, first.err
    assert first.out.splitlines()[-1] == "next: fedcli train-client --id all"
    assert "no client gets: diamond" in first.err
    assert max(map(len, first.out.splitlines())) <= 80
    again = fedcli("partition", *options, "--json", cwd=tmp_path)
    assert again.status == 0
    assert again.json["already_done"] is True
    assert again.json["label_counts"]["0"] == [10, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    other = fedcli("partition", "--json", cwd=tmp_path)
    assert other.status == 5
    assert other.json["error"]["kind"] == "conflict"


def test_the_list_of_schemes(tmp_path):
    listed = fedcli("partition", "--list", "--json", cwd=tmp_path).json["schemes"]
    assert list(listed) == list(PARTITIONERS)
    assert listed["dirichlet"]["options"] == {"alpha": 0.5, "min_size": 1, "balance": False}
    assert all(row["summary"] and row["source"] for row in listed.values())
    shown = fedcli("partition", "--list", cwd=tmp_path).out
    assert max(map(len, shown.splitlines())) <= 80
    for name, partitioner in PARTITIONERS.items():
        assert f"\n{name} " in shown
        for option in partitioner.options:
            assert f"--{option.replace('_', '-')}" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_session_of_unequal_clients(tmp_path):
    options = ("--quantity", "exponential", "--clients", 9, "--limit", 300, "--min-size", 4)
    first = fedcli("partition", *options, "--model", "linear", cwd=tmp_path)
    assert first.status == 0, first.err
    assert "cut by scheme quantity" in first.out
    assert "moved to reach --min-size: " in first.out
    assert max(map(len, first.out.splitlines())) <= 80
    again = fedcli("partition", *options, "--model", "linear", "--json", cwd=tmp_path).json
    assert again["already_done"] is True
    sizes = [sum(counts) for counts in again["label_counts"].values()]
    assert (sum(sizes), min(sizes)) == (300, 4)
    figures = json.loads((tmp_path / "fedrun/data/partition.json").read_text())["heterogeneity"]
    assert again["heterogeneity"] == figures
    assert f"Gini {figures['gini_of_sizes']:.3f}" in first.out


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["--dataset", "nothing"], 2, "nothing"),
        (["--scheme", "magic"], 2, "magic"),
        (["--alpha", "0"], 2, "--alpha"),
        (["--clients", "6001"], 2, "--clients"),
        (["--dataset", "imagefolder:nowhere"], 3, "nowhere"),
        (["--dataset", "imagefolder:."], 4, "expected one folder for each class"),
        (["--plot", "labels.jpg"], 2, "labels.jpg"),
        (["--scheme", "shards", "--balance"], 2, "--balance"),
        (["--scheme", "natural"], 2, "--scheme natural"),
        (["--sizes", "5000,5000"], 2, "--sizes"),
    ],
)
def test_wrong_input_ends_in_one_line_and_the_documented_status(tmp_path, arguments, status, word):
    failed = fedcli("partition", *arguments, cwd=tmp_path)
    assert failed.status == status
    lines = failed.err.splitlines()
    assert lines[0].startswith("error: ")
    assert word in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert list(tmp_path.iterdir()) == []
