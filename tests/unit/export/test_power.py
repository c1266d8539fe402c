"""What certificates and replays let pass: shown exactly and by simulation, and held to the file that the pages print."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_export.cli import main
from resnet_export.power import images_needed, measure_power, most_flips, most_lost, passes
from resnet_export.replay_power import WRONG, certified, measure_network, replayed
from resnet_proto.certificate import POLICIES, violations
from resnet_proto.intervals import paired_interval
from resnet_proto.manifest_pb2 import Certificate

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results" / "2026-11-29-certificates"
INT8 = POLICIES["int8"]
BAD = 0.95
DRAWS = 300


def kept(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_the_committed_chances_are_those_that_the_policy_gives() -> None:
    printed = json.loads(CliRunner().invoke(main, ["power", "--json"]).stdout)
    assert printed == {"certified": kept("power.json")["certified"], "replayed": None}


def test_a_network_at_95_percent_is_certified_in_less_than_one_case_of_a_hundred() -> None:
    power = measure_power()
    column = power.agreements.index(BAD)
    assert max(chance.passes[column] for chance in power.chances) < 1e-6
    assert passes(INT8.min_images, BAD, INT8) == pytest.approx(BAD**INT8.min_images, abs=1e-9)


def test_every_committed_replay_of_a_network_at_95_percent_passes_in_less_than_one_case_of_a_hundred() -> None:
    found = kept("power.json")["replayed"]
    column = found["agreements"].index(BAD)
    shares = {(row["wrong"], row["decided_by"]): row["passes"][column] for row in found["rows"]}
    assert {wrong for wrong, _ in shares} == set(WRONG)
    now = {key: share for key, share in shares.items() if key[1] in ("certificate", "replay, its own logits too")}
    assert len(now) == 2 * len(WRONG)
    assert max(now.values()) < 0.01
    assert shares["all logits, a little", "replay, the reference's logits only"] > 0.5  # what storing each file's own logits mends


def allowed(images: int, flips: int) -> bool:
    made = Certificate(policy=INT8, images=images, batch_sizes=[1], flips=flips, decided_flips=flips, top1_agreement=1 - flips / images)
    return not violations(made)


@pytest.mark.parametrize("images", [368, 1000, 9980])
def test_the_counts_are_the_last_that_a_certificate_allows(images: int) -> None:
    flips = most_flips(images, INT8)
    assert (allowed(images, flips), allowed(images, flips + 1)) == (True, False)
    lost = most_lost(images, INT8)
    bounds = [100 * paired_interval(0, one, images, INT8.confidence)[0] for one in (max(lost, 0), lost + 1)]
    assert [low >= -INT8.max_accuracy_loss for low in bounds] == [lost >= 0, False]


def test_fewer_images_than_needed_do_not_show_what_is_there() -> None:
    needed = images_needed(0.995, INT8)
    assert needed is not None
    assert passes(needed, 0.995, INT8) >= 0.9 > passes(needed - 1, 0.995, INT8)
    assert images_needed(0.99, INT8) is None


@pytest.mark.parametrize("wrong", WRONG)
def test_a_real_network_spoiled_to_95_percent_is_found_out(wrong: str, released_repository: Path) -> None:
    network, dice = measure_network(released_repository / "resnet20" / "1"), np.random.default_rng(1)
    logits = WRONG[wrong](network, BAD, dice)
    samples = [dice.choice(len(logits), len(logits), replace=False) for _ in range(DRAWS)]
    assert sum(certified(network, logits, rows[:368]) for rows in samples) == 0
    assert sum(replayed(network, logits, rows[:128], own=True) for rows in samples) < 0.01 * DRAWS
    assert all(replayed(network, network.own, rows[:128], own=True) for rows in samples[:20])


def test_the_decision_page_compares_rules_by_what_they_let_pass(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "decisions" / "0014-certificates-on-bounds.py"))
    script["main"](tmp_path / "bounds.json")
    assert json.loads((tmp_path / "bounds.json").read_text()) == kept("bounds.json")
    column = script["AGREEMENTS"].index(0.988)
    worse = {row["rule"]: row["passes"][column] for row in kept("bounds.json")["agreement"] if row["images"] == 1000}
    assert worse["the figure itself"] > 0.3 > 0.025 > worse["Clopper and Pearson's"]


def test_a_version_of_other_images_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["power", str(tmp_path)])
    assert result.exit_code == 1
    assert "manifest.json" in result.output
