"""Publishing survives what befalls it: kill -9 at every step, a full disk, and other publishers."""

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from publishing import assert_whole, killed_at, publish, publish_many, publish_next, publish_within, remove_first
from resnet_export.errors import RepositoryError
from resnet_export.repository import model_folder, remove, staging, used, versions

PROCESSES = multiprocessing.get_context("forkserver")  # a fork of this process would copy the threads of other tests


def run_killed(step: int, work: Callable[[Path], object], model: Path) -> bool:
    """True if the process was killed, false if it ended before that step."""
    process = PROCESSES.Process(target=killed_at, args=(step, work, model))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_kill_9_at_any_step_leaves_every_version_whole_and_the_next_publisher_cleans_up(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        model = tmp_path / str(step) / "m"
        publish(model)
        if not run_killed(step, publish_next, model):
            break
        assert_whole(model)
        assert versions(model) in ([1], [1, 2])
        publish(model)
        assert_whole(model)
        assert [path.name for path in model.iterdir() if path.name.startswith((".publishing", ".removing"))] == []
    assert step > 20  # steps there were


def test_kill_9_while_removing_leaves_the_version_whole_or_gone(tmp_path: Path) -> None:
    seen = set()
    for step in range(1, 100):
        model = tmp_path / str(step) / "m"
        publish(model)
        publish(model)
        killed = run_killed(step, remove_first, model)
        assert_whole(model)
        seen.add(tuple(versions(model)))
        assert publish(model).name == "3"
        if not killed:
            break
    assert seen == {(1, 2), (2,)}
    assert not killed


@pytest.mark.parametrize("limit", [0, 1, 500, 999])
def test_a_disk_that_is_full_is_one_clear_error_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    model = tmp_path / "m"
    publish(model)
    said = PROCESSES.SimpleQueue()
    process = PROCESSES.Process(target=publish_within, args=(limit, model, said))
    process.start()
    assert "cannot be written: File too large; nothing is published" in said.get()
    process.join()
    assert process.exitcode == 0
    assert sorted(path.name for path in model.iterdir()) == [".versions", "1"]
    assert_whole(model)
    assert publish(model).name == "2"


def test_publishers_at_once_take_one_number_after_the_other(tmp_path: Path) -> None:
    together = PROCESSES.Barrier(4)
    processes = [PROCESSES.Process(target=publish_many, args=(tmp_path / "m", together, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert versions(tmp_path / "m") == list(range(1, 21))
    assert_whole(tmp_path / "m")


def test_a_publisher_that_is_at_work_is_left_alone(tmp_path: Path) -> None:
    model = tmp_path / "m"
    with staging(model) as slow:
        (slow.folder / "file").write_text("half")
        assert publish(model).name == "1"
        assert (slow.folder / "file").read_text() == "half"
        assert slow.appear(None, lambda _: None).name == "2"


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    model = tmp_path / "m"
    publish(model, 3)
    with pytest.raises(RepositoryError, match=r"version: 3 of m exists in .* and is never overwritten"):
        publish(model, 3)
    assert publish(model).name == "4"
    assert publish(model, 1).name == "1"


def test_the_number_of_a_removed_version_is_never_used_again(tmp_path: Path) -> None:
    model = tmp_path / "m"
    publish(model)
    publish(model)
    remove(model, 2)
    with pytest.raises(RepositoryError, match="version: 2 of m is not in"):
        remove(model, 2)
    with pytest.raises(RepositoryError, match="version: 2 of m was published once and removed; a number is never used again"):
        publish(model, 2)
    assert publish(model).name == "3"
    assert used(model) == {1, 2, 3}


def test_numbers_count_where_an_older_release_kept_no_record(tmp_path: Path) -> None:
    (tmp_path / "m" / "7").mkdir(parents=True)
    assert publish(tmp_path / "m").name == "8"


def test_a_publication_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), staging(tmp_path / "r" / "m"):
        raise KeyError
    assert not (tmp_path / "r" / "m").exists()


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", ".hidden"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="name: "):
        model_folder(tmp_path, name)
