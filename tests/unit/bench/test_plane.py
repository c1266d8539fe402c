"""The plane of a group: the simulator half with known answers, what is saved, and what contradictory options get."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_bench.cli import main
from resnet_bench.commands.plane import table, untrained_table
from resnet_bench.errors import BenchError
from resnet_bench.machine import this_machine
from resnet_bench.plane import teach
from resnet_bench.plane.loads import loads
from resnet_bench.plane.parts import Begun, Parts, packed
from resnet_bench.plane.record import MemberRecord, Plane, Point, Untrained, load_plane, mean
from resnet_bench.plane.served import read_labelled, with_measured
from resnet_bench.plane.simulated import as_served, fitted, run
from resnet_bench.report.plane_plot import DARK, save_picture
from resnet_server.routing.simulator import Workshop

MEMBERS = (MemberRecord("r20", "fp32", 20, 0.9, 1e-4, 2e-3), MemberRecord("r56", "fp32", 56, 0.95, 1e-4, 6e-3))
RIGHT = {"r20 fp32": np.arange(10) < 6, "r56 fp32": np.arange(10) < 8}


@pytest.fixture(scope="module")
def plane() -> Plane:
    """All loads for a second, once."""
    kinds, parts = loads(1.0), Parts(None, "")
    points = run(MEMBERS, Workshop(2, 8, 0.05), kinds, 1, RIGHT, parts.simulated)
    assert run(MEMBERS, Workshop(2, 8, 0.05), kinds, 1, {}, parts.simulated) == points  # they are there
    texts = {kind.name: kind.text for kind in kinds}
    return Plane("auto", "resnet-bench", this_machine(), with_measured(MEMBERS, RIGHT), 2, 8, 0.05, 10, tuple(points), texts)


def test_accuracy_is_measured_on_the_images_that_were_answered_in_time(plane: Plane) -> None:
    for load in plane.loads:
        shallow, deep = (mean(plane.of(load, member.label)) for member in plane.members)
        assert shallow[1] == pytest.approx(0.6, abs=0.03)
        assert deep[1] == pytest.approx(0.8, abs=0.08)
        auto, oracle = mean(plane.of(load, "auto")), mean(plane.of(load, "oracle"))
        assert auto[0] >= deep[0] - 0.001
        assert oracle[0] * oracle[1] >= auto[0] * auto[1] - 0.02  # the bound is of the mean over the images of all calls
    assert [member.measured for member in plane.members] == [0.6, 0.8]
    assert plane.best_static("near the limit") == "r20 fp32"


def test_a_plane_is_saved_whole_drawn_and_read_again(plane: Plane, tmp_path: Path) -> None:
    assert load_plane(plane.save(tmp_path)) == plane
    picture = save_picture(plane, tmp_path / "plane.svg").read_text()
    assert "answered in time" in picture or "<svg" in picture
    assert len(table(plane, real=False).rows) == len(plane.loads)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(BenchError, match=r"is no plane of a group"):
        load_plane(tmp_path / "results.json")


def test_the_picture_follows_the_page_it_stands_on(plane: Plane, tmp_path: Path) -> None:
    picture = save_picture(plane, tmp_path / "plane.svg").read_text()
    assert "prefers-color-scheme:dark" in picture
    style, drawn = picture.split("</style>", 1)
    for light, dark in DARK.items():
        assert light in style
        assert dark in style
        assert light not in drawn  # all of it is a variable


def over_seeds(*rates: tuple[str, int, float, float], real: bool = False) -> Plane:
    points = tuple(Point("burst", method, seed, 100, in_time, right, real=real) for method, seed, in_time, right in rates)
    return Plane("auto", "", this_machine(), MEMBERS, 2, 8, 0.05, 10, points, {"burst": ""})


def test_differences_are_of_the_same_traces_and_have_intervals_over_seeds() -> None:
    ours = [("auto", seed, 1.0, right) for seed, right in enumerate((0.90, 0.80, 0.85))]
    found = over_seeds(
        *ours, *(("r20 fp32", seed, 1.0, one[3] - gain) for (seed, one), gain in zip(enumerate(ours), (0.01, 0.02, 0.03), strict=True))
    )
    gain = found.gain("burst", "r20 fp32")
    assert gain.mean == pytest.approx(0.02)
    assert gain.interval == pytest.approx((0.01, 0.03), abs=1e-9)  # though the traces differ by ten points
    assert gain.points == "+2.00 [+1.00, +3.00]"
    assert gain.reversed.points == "-2.00 [-3.00, -1.00]"
    assert over_seeds(*ours[:2], ("r20 fp32", 0, 1.0, 0.8), ("r20 fp32", 1, 1.0, 0.8)).gain("burst", "r20 fp32").points == "+5.00"


def test_a_fixed_network_that_is_no_worse_in_either_and_better_in_one_is_named() -> None:
    assert over_seeds(("auto", 0, 1.0, 0.9), ("r20 fp32", 0, 1.0, 0.9), ("r56 fp32", 0, 0.9, 0.95)).beaten_by("burst") == []
    assert over_seeds(("auto", 0, 1.0, 0.9), ("r20 fp32", 0, 1.0, 0.91), ("r56 fp32", 0, 0.9, 0.95)).beaten_by("burst") == ["r20 fp32"]


def test_what_members_answer_while_they_serve_is_given_back_by_the_simulator() -> None:
    shop = Workshop(2, 8, 0.05)
    served = [replace(member, served=2 / (1.1 * member.per_row + 1.1 / 8 * member.fixed + 4e-4)) for member in MEMBERS]
    members, busy = as_served(served, shop)
    assert busy.serving == pytest.approx(4e-4)
    assert [member.per_row for member in members] == pytest.approx([2.2e-3, 6.6e-3])
    assert [busy.capacity(member) for member in members] == pytest.approx([member.served for member in served])
    assert as_served(MEMBERS, shop)[1].serving == 0


def test_what_no_cost_of_serving_explains_is_a_slower_machine() -> None:
    shop = Workshop(2, 8, 0.05)
    served = [replace(member, served=rate) for member, rate in zip(MEMBERS, (1200.0, 300.0), strict=True)]  # the shallow one gains
    assert fitted(served, shop)[1] == 0
    assert 0.7 < fitted(served, shop)[0] < 1.2
    assert fitted(served[:1], shop) == pytest.approx((2 / 1200 / (2e-3 + 1e-4 / 8), 0.0))


def begun(command: str) -> Begun:
    return Begun("auto", command, MEMBERS, 2, 8, 10, packed(RIGHT))


def test_a_run_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    point, asked = Point("burst", "auto", 0, 100, 0.9, 0.8, by_member={"r20 fp32": 90}, real=True), list[int]()

    def measure(seed: int) -> Point:
        asked.append(seed)
        return replace(point, seed=seed)

    first = Parts(tmp_path, "resnet-bench")
    assert first.begun is None
    first.begin(begun("resnet-bench"))
    assert first.point(("burst", "auto", 0), lambda: measure(0)) == point
    again = Parts(tmp_path, "resnet-bench")
    assert again.begun == begun("resnet-bench")
    assert {label: right.tolist() for label, right in again.begun.answers.items()} == {
        label: right.tolist() for label, right in RIGHT.items()
    }
    assert [again.point(("burst", "auto", seed), partial(measure, seed)).seed for seed in (0, 1)] == [0, 1]
    assert asked == [0, 1]
    with pytest.raises(BenchError, match=r"unfinished.jsonl is of `resnet-bench`; give that command again"):
        Parts(tmp_path, "another")
    shop = Workshop(2, 8, 0.05)
    points = run(MEMBERS, shop, loads(1.0)[:2], 2, RIGHT, again.simulated)

    def never() -> Any:
        raise AssertionError

    once_more = Parts(tmp_path, "resnet-bench")
    assert [point for load in loads(1.0)[:2] for seed in range(2) for point in once_more.simulated((load.name, seed), never)] == points
    assert once_more.point(("burst", "auto", 1), never).seed == 1
    again.done()
    assert Parts(tmp_path, "another").begun is None
    (tmp_path / "unfinished.jsonl").write_text("half a l")
    with pytest.raises(BenchError, match=r"cannot be read .*; delete it to begin anew"):
        Parts(tmp_path, "resnet-bench")


def test_networks_with_random_weights_are_marked(plane: Plane, tmp_path: Path) -> None:
    marked = replace(plane, untrained=(Untrained("resnet18", "fp32", 18, 40, 0.02, 0.03),))
    assert load_plane(marked.save(tmp_path)) == marked
    shown = untrained_table(marked)
    assert "their answers say nothing" in str(shown.title)
    assert [next(iter(column.cells)) for column in shown.columns] == ["resnet18", "fp32", "18", "20.0", "30.0", "40"]


def test_the_page_for_readers_is_one_file_with_all_of_its_data(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teach, "LOADS", (0.5, 1.5, 4.0))
    monkeypatch.setattr(teach, "DEADLINES", (10, 50))
    text = teach.save_page(plane, tmp_path / "page.html").read_text()
    assert "http" not in text
    assert "src=" not in text
    found = json.loads(text.split("const data = ", 1)[1].split(";\n", 1)[0])
    assert [member["accuracy"] for member in found["members"]] == [0.6, 0.8]
    assert len(found["cells"]) == 6
    calm, _, crowded = (found["cells"][3 + load] for load in range(3))
    assert calm[1] > 0.9  # the deepest answers what it can
    assert crowded[0] > crowded[1]
    for shallow, deep, missed, _ in found["cells"]:
        assert shallow + deep + missed == pytest.approx(1, abs=1e-3)


def test_labelled_images_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((3, 4, 4, 3), np.uint8), labels=np.arange(3))
    assert read_labelled(path).labels.tolist() == [0, 1, 2]
    np.savez(path, images=np.zeros((3, 4, 4, 3), np.uint8), labels=np.arange(2))
    with pytest.raises(BenchError, match=r"images uint8 \[3, 4, 4, 3\] and 2 labels; expected UINT8"):
        read_labelled(path)
    np.savez(path, pixels=np.zeros(3))
    with pytest.raises(BenchError, match=r"expected an .npz with images and labels"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(("--real",), "--real needs --labelled"), ((), "--group needs --repository or --url")],
)
def test_contradictory_options_are_named(options: tuple[str, ...], complaint: str) -> None:
    result = CliRunner().invoke(main, ["depths", "--group", "auto", *options])
    assert result.exit_code == 2
    assert complaint in result.output
