"""`serving.toml` and version policies: what they may say, and one clear error for anything else."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from resnet_proto.manifest_pb2 import Artifact, Input, Manifest, Network
from resnet_server.cli import main
from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.errors import StartError
from resnet_server.models.description import warn_of_size
from resnet_server.models.loader import plan_of_the_same
from resnet_server.models.model_settings import NONE, ModelSettings, ModelSettingsError, parse_shares, read_model_settings, wanted_of
from resnet_server.models.repository import Candidate, Published, Repository, Trust, choose_versions, scan
from resnet_server.models.served_model import ModelInfo
from resnet_server.models.versions import Weights, parse_versions
from resnet_server.planning.plan import Trial, choose
from resnet_server.settings import Settings, Shares

WRONG = {
    "precison = 'int8'": "precison: is unknown; expected some of precision, runtime, versions, engines, threads, max-batch",
    "precision = 'int4'": "precision: 'int4'; expected auto, or some of fp32, fp16, int8 separated by commas",
    "precision = 8": "precision: 8; expected auto, or some of",
    "versions = 'newest'": "versions: 'newest'; expected latest, latest-2",
    "versions = [1, 0]": "versions: '1,0'; expected latest",
    "versions = []": "versions: ''; expected latest",
    "versions = [1, 1]": "versions: '1,1'; expected latest",
    "versions = 'latest-0'": "versions: 'latest-0'; expected latest",
    "engines = 0": "engines: 0; expected a whole number from 1 to 1024",
    "engines = true": "engines: True; expected a whole number from 1 to 1024",
    "threads = '2'": "threads: '2'; expected a whole number from 1 to 1024",
    "max-batch = 5000": "max-batch: 5000; expected a whole number from 1 to 4096",
    "latency-target = 0": "latency-target: '0'; expected a duration such as 50ms or 2s",
    "latency-target = '20 minutes'": "latency-target: '20 minutes'; expected a duration",
    "max-queue-rows = -1": "max-queue-rows: -1; expected a whole number from 1 to 16777216",
    "max-delay = nan": "max-delay: 'nan'; expected a duration",
    "max-delay = [1]": "max-delay: [1]; expected a duration",
    "[queue]\nrows = 1": "queue: is unknown",
    "weights = 3": "weights: 3; expected versions with their shares, such as { 3 = 0.9, 4 = 0.1 }",
    "weights = {}": "weights: {}; expected versions with their shares",
    "weights = { a = 1 }": "weights: {'a': 1}; expected versions with their shares",
    "weights = { 1 = -1 }": "weights: 1 = -1; expected a share from 0 to 1e+06",
    "weights = { 1 = nan }": "weights: 1 = nan; expected a share from 0",
    "weights = { 1 = true }": "weights: 1 = True; expected a share from 0",
    "weights = { 1 = 0, 2 = 0.0 }": "weights: all are 0; expected a share above 0 for one version at least",
    "shadow = 2": "shadow: 2; expected versions with their shares",
    "shadow = { 2 = 1.5 }": "shadow: 2 = 1.5; expected a share of the calls from 0 to 1",
    "= 1": "is no TOML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_line_gives_one_error_that_names_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text(text)
    with pytest.raises(ModelSettingsError) as error:
        read_model_settings(tmp_path)
    assert f"serving.toml: {WRONG[text]}" in str(error.value)
    assert len(str(error.value)) < 400


def test_a_file_that_is_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_bytes(b"#" * 70_000)
    with pytest.raises(ModelSettingsError, match="70000 bytes; expected at most 65536"):
        read_model_settings(tmp_path)
    (tmp_path / "serving.toml").write_bytes(b"\xff")
    with pytest.raises(ModelSettingsError, match="is no TOML"):
        read_model_settings(tmp_path)


def test_what_is_said_overrules_the_server_and_nothing_else(tmp_path: Path) -> None:
    assert read_model_settings(tmp_path) is NONE
    settings = Settings(Path(), threads=3, max_batch=64)
    assert NONE.applied(settings) == settings
    text = "precision='int8, fp32'\nversions='latest-2'\nengines=2\nmax-batch=8\nlatency-target='20ms'\nmax-queue-rows=9\nmax-delay=0\n"
    (tmp_path / "serving.toml").write_text(text)
    own = read_model_settings(tmp_path)
    given: dict[str, Any] = {"precision": "int8, fp32", "versions": "latest-2", "engines": 2, "max_batch": 8, "latency_target": 0.02}
    assert own.applied(settings) == replace(settings, **given, max_queue_rows=9, max_delay=0.0)
    first = own.digest
    (tmp_path / "serving.toml").write_text(text.replace("9", "8"))
    assert read_model_settings(tmp_path).digest not in ("", first)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("latest", ["10"]),
        ("latest-2", ["9", "10"]),
        ("latest-9", ["2", "9", "10"]),
        ("all", ["2", "9", "10"]),
        (" 9, 2", ["2", "9"]),
        ("7", ["7"]),
    ],
)
def test_a_policy_chooses_by_number_and_not_by_letters(text: str, chosen: list[str]) -> None:
    assert parse_versions(text).choose(["10", "9", "2"]) == chosen


def test_versions_in_shadow_are_beside_those_that_the_policy_chooses(tmp_path: Path) -> None:
    for version in ("1", "2", "3", "4"):
        (tmp_path / version).mkdir()
    shadow = "shadow = { 4 = 0.5 }\n"
    cases: list[tuple[str, str | None, str]] = [
        (shadow, None, "34"),
        (shadow + "versions = 'latest-2'", None, "234"),
        (shadow + "versions = [1]", None, "14"),
        (shadow + "weights = { 1 = 0.9, 2 = 0.1 }", None, "124"),
        (shadow, "all", "1234"),
        (shadow, "1,2", "12"),
    ]
    for text, asked, chosen in cases:
        (tmp_path / "serving.toml").write_text(text)
        found, own, refusal = choose_versions(tmp_path, wanted_of(Settings(tmp_path)), parse_versions(asked) if asked else None)
        assert ("".join(path.name for path in found), refusal) == (chosen, ""), text
        assert own.applied_to("4", Settings(tmp_path, threads=8)).threads == 1
        assert own.applied_to("3", Settings(tmp_path, threads=8)).threads == 8


@pytest.mark.parametrize(
    "text", ["", "resnet20", "resnet20=", "=1:1", "resnet20=1", "resnet20=1:x", "resnet20=1:1:1", "resnet20=01:1", "r=1:2"]
)
def test_wrong_shares_are_refused_by_the_command_line(text: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--repository", "x", f"--shadow={text}"])
    assert result.exit_code == 2
    assert "expected" in result.output
    assert parse_shares("weights", "resnet20=3:0.9, 4:0.1") == Shares("resnet20", (("3", 0.9), ("4", 0.1)))


def test_shares_of_a_model_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    settings = Settings(tmp_path, shadows=(Shares("resnet21", (("1", 1.0),)),))
    (tmp_path / "resnet20").mkdir()
    with pytest.raises(StartError, match=r"weights, shadow: resnet21 not in .*; it holds resnet20"):
        scan(Repository(tmp_path), models=(), wanted=wanted_of(settings), trust=Trust())


def test_shares_are_drawn_among_the_versions_that_serve() -> None:
    weights = Weights((("3", 0.9), ("4", 0.1), ("5", 0.0)))
    drawn = Counter(weights.draw(["3", "4", "5"]) for _ in range(4000))
    assert drawn.keys() == {"3", "4"}
    assert 240 < drawn["4"] < 580  # 400 within some nine deviations
    assert {weights.draw(["4", "5"]) for _ in range(100)} == {"4"}
    assert weights.draw(["5", "6"]) == weights.draw([]) == ""


@pytest.mark.parametrize("text", ["", "latest-", "latest-0", "latest-x", "all-2", "01", "1,,2", "1,1", "-1", "²", "9" * 19])
def test_a_wrong_policy_is_refused_by_the_command_line(text: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--repository", "x", f"--versions={text}"])
    assert result.exit_code == 2
    assert "expected latest, latest-2 for the two highest, all, or numbers such as 1,3" in result.output


def ready(version: Published) -> ModelInfo:
    plan = choose([Trial("fp32", 2, 1, rows, 1e-3 * rows) for rows in (1, 8)], None, 2)
    return ModelInfo(version.manifest, (), "fp32", CPU_PROVIDER, True, None, plan, version.own)


def test_rows_that_no_message_can_hold_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for side, own in ((295, NONE), (296, NONE), (295, ModelSettings("x", max_batch=65))):
        large = published("1", own=own)
        large.manifest.input.height = large.manifest.input.width = side
        warn_of_size(ready(large), Settings(tmp_path))
    assert [record.getMessage().partition("; ")[0] for record in caplog.records] == [
        "net version 1: a request may have 64 rows, which take 16822272 bytes",
        "net version 1: a request may have 65 rows, which take 16969875 bytes",
    ]
    caplog.clear()
    warn_of_size(ready(large), Settings(tmp_path, max_message_bytes=1 << 25))
    assert not caplog.records


def published(version: str, variant: str = "resnet20", own: ModelSettings = NONE, precision: str = "fp32") -> Published:
    artifact = Artifact(precision=precision)
    manifest = Manifest(name="net", version=version, network=Network(variant=variant), input=Input(height=32), artifacts=[artifact])
    return Published("net", version, Path(), manifest, candidates=(Candidate(artifact, Path()),), own=own)


def test_a_new_version_of_the_same_network_takes_its_plan_over_to_be_measured_in_calm() -> None:
    info = ready(published("1"))
    plan, like = info.plan, [info]

    def found(new: Published) -> Any:
        return plan_of_the_same(new, new.candidates, like)

    taken = found(published("2"))
    assert (taken.layout, taken.batch, taken.fixed, taken.per_row) == (plan.layout, plan.batch, plan.fixed, plan.per_row)
    assert not plan.doubtful
    assert taken.doubtful  # which the plan keeper measures again, in calm
    assert "version 1" in taken.reason
    others = (published("2", "resnet32"), published("2", own=ModelSettings("x", engines=1)), published("2", precision="int8"))
    assert [found(other) for other in others] == [None, None, None]
    assert plan_of_the_same(published("2"), (), []) is None
