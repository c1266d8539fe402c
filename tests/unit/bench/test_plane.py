"""The plane of a group: the simulator half with known answers, what is saved, and what contradictory options get."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_bench.cli import main
from resnet_bench.commands.plane import table
from resnet_bench.errors import BenchError
from resnet_bench.machine import this_machine
from resnet_bench.plane import teach
from resnet_bench.plane.loads import loads
from resnet_bench.plane.record import MemberRecord, Plane, load_plane, mean
from resnet_bench.plane.served import read_labelled, with_measured
from resnet_bench.plane.simulated import run
from resnet_bench.report.plane_plot import save_picture
from resnet_server.routing.simulator import Workshop

MEMBERS = (MemberRecord("r20", "fp32", 20, 0.9, 1e-4, 2e-3), MemberRecord("r56", "fp32", 56, 0.95, 1e-4, 6e-3))
RIGHT = {"r20 fp32": np.arange(10) < 6, "r56 fp32": np.arange(10) < 8}


@pytest.fixture(scope="module")
def plane() -> Plane:
    """All loads for a second, once."""
    kinds, said = loads(1.0), list[str]()
    points = run(MEMBERS, Workshop(2, 8, 0.05), kinds, 1, RIGHT, said.append)
    assert len(said) == len(kinds)
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
