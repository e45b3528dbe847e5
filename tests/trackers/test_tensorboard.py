"""TensorBoard reads back what the run measured, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sample_runs import make_run, score, write_evaluation

from fedcli.errors import ConflictError
from fedcli.run import Run
from fedcli.steps.report import report

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
)
Curves = dict[str, dict[int, float]]


def read(folder: Path) -> Any:
    found = accumulator.EventAccumulator(str(folder), {accumulator.SCALARS: 0})
    return found.Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = read(folder)
    tags = found.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in tags}


def in_single_precision(curves: Curves) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(number, float(np.float32(value))) for number, value in values.items()]
        for name, values in curves.items()
    }


def test_values_are_those_of_the_run(
    run: Run, tmp_path: Path, curves: Callable[[Run], Curves]
) -> None:
    report([run], tensorboard=tmp_path / "tb")
    found = scalars(tmp_path / "tb" / "fedrun")
    expected = in_single_precision(curves(run))
    assert {name: found.get(name) for name in expected} == expected


def test_time_is_that_of_the_run(run: Run, tmp_path: Path) -> None:
    report([run], tensorboard=tmp_path / "tb")
    found = read(tmp_path / "tb" / "fedrun").Scalars("test/accuracy")
    assert [one.wall_time for one in found] == [3.75, 8.5, 14.25]


def test_settings_are_hyper_parameters(run: Run, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    report([run], tensorboard=tmp_path / "tb")
    content = read(tmp_path / "tb" / "fedrun").PluginTagToContent(metadata.PLUGIN_NAME)
    (start,) = content.values()
    found = metadata.parse_session_start_info_plugin_data(start).hparams
    assert (found["algorithm"].string_value, found["alpha"].number_value) == ("fedavg", 0.5)
    assert found["fedcli_run"].string_value == run.id


def test_a_repetition_changes_nothing(run: Run, tmp_path: Path) -> None:
    report([run], tensorboard=tmp_path / "tb")
    (first,) = (tmp_path / "tb" / "fedrun").iterdir()
    before = (first.stat().st_mtime_ns, first.stat().st_ino)
    report([run], tensorboard=tmp_path / "tb")
    assert [*(tmp_path / "tb" / "fedrun").iterdir()] == [first]
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == before


def test_a_run_that_went_on_is_replaced(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tb" / "fedrun"
    report([run], tensorboard=tmp_path / "tb")
    (first,) = folder.iterdir()
    write_evaluation(run.round(3), [score(run, 0.75)])
    report([run], tensorboard=tmp_path / "tb")
    (second,) = folder.iterdir()
    assert second.name > first.name  # TensorBoard goes on to files that come later
    events = read(folder).Scalars("test/accuracy")
    assert [one.step for one in events] == [1, 2, 3]
    assert events[-1].value == 0.75


def test_an_earlier_file_that_was_not_removed_counts_no_more(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tb" / "fedrun"
    report([run], tensorboard=tmp_path / "tb")
    write_evaluation(run.round(3), [score(run, 0.75)])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        report([run], tensorboard=tmp_path / "tb")
    assert len([*folder.iterdir()]) == 2
    events = read(folder).Scalars("test/accuracy")
    assert [(one.step, one.value) for one in events][2:] == [(3, 0.75)]
    report([run], tensorboard=tmp_path / "tb")
    assert len([*folder.iterdir()]) == 1


def test_another_run_by_the_same_name_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    report([run], labels=["b"], tensorboard=tmp_path / "tb")
    others = [make_run(tmp_path / "a"), make_run(tmp_path / "b", clients=("0", "1"))]
    with pytest.raises(ConflictError, match="event files of something else than run b"):
        report(others, tensorboard=tmp_path / "tb")
    assert [path.name for path in (tmp_path / "tb").iterdir()] == ["b"]


def test_two_labels_that_would_share_a_folder_are_refused(run: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", clients=("0", "1"))
    with pytest.raises(ConflictError, match="something else than run a;b"):
        report([run, other], labels=["a,b", "a;b"], tensorboard=tmp_path / "tb")


def test_labels_become_folders_within_the_directory(run: Run, tmp_path: Path) -> None:
    report([run], labels=["../a/b"], tensorboard=tmp_path / "tb")
    assert [path.name for path in (tmp_path / "tb").iterdir()] == ["_a_b"]


def test_what_a_killed_command_left_is_no_obstacle(run: Run, tmp_path: Path) -> None:
    report([run], tensorboard=tmp_path / "tb")
    (file,) = (tmp_path / "tb" / "fedrun").iterdir()
    file.with_name(f".{file.name}.host-0123abcd.1-0123abcd.tmp").write_bytes(b"half")
    report([run], tensorboard=tmp_path / "tb")
