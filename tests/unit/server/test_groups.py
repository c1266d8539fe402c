"""What a group is made of: members that go together, one plan for all, and what operators and callers may say of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_proto.open_inference_pb2 import ModelInferRequest
from resnet_server.batching.chooser import ANY, Demand
from resnet_server.cli import main
from resnet_server.endpoints.parameters import read_parameters
from resnet_server.errors import InvalidRequestError, ServingError, StartError
from resnet_server.models.group import entries
from resnet_server.models.group_file import with_groups
from resnet_server.models.group_loader import alone, check_groups, names_to_scan, sources
from resnet_server.models.repository import Candidate, Published
from resnet_server.option_types import GroupOf
from resnet_server.planning.group_plan import MemberFacts, choose_for_group, costs, members_of
from resnet_server.planning.measure import promising
from resnet_server.planning.plan import Plan, Trial
from resnet_server.settings import Group, Settings

LABELS = ("cat", "dog")


def published(name: str, accuracy: float | None = 0.9, stated: float | None = None, version: str = "1") -> Published:
    manifest = Manifest(name=name, version=version)
    manifest.input.height = manifest.input.width = 32
    manifest.input.name, manifest.output.name, manifest.output.classes = "image", "logits", len(LABELS)
    manifest.network.trained = True
    artifact = Artifact(precision="fp32")
    artifact.certificate.images_sha256 = artifact.certificate.images_source = "a thousand"
    if accuracy is not None:
        artifact.certificate.artifact_accuracy, artifact.certificate.reference_accuracy = 100 * accuracy, 100 * accuracy + 0.5
    if stated is not None:
        manifest.source.accuracy, manifest.source.accuracy_images = 100 * stated, "ten thousand"
    manifest.artifacts.append(artifact)
    return Published(name, version, Path("/models") / name / version, manifest, LABELS, (Candidate(artifact, Path("file")),))


def entered(*versions: Published) -> dict[str, float]:
    certified = [(version, candidate) for version in versions for candidate in version.candidates]
    return {entry.label: entry.accuracy for entry in entries("auto", versions, certified)}


def test_accuracy_is_what_training_states_less_what_the_file_lost_where_all_state_it() -> None:
    assert entered(published("a", 0.99, stated=0.91), published("b", 0.98, stated=0.92)) == pytest.approx(
        {"a fp32": 0.905, "b fp32": 0.915}
    )
    assert entered(published("a", 0.99, stated=0.91), published("b", 0.98)) == pytest.approx({"a fp32": 0.99, "b fp32": 0.98})


def test_what_differs_is_named() -> None:
    first, other = published("a"), published("b")
    other.manifest.input.height = 64
    with pytest.raises(ServingError, match=r"group: auto: b differs from a in input.height: 64, not 32"):
        entered(first, other)
    with pytest.raises(ServingError, match=r"b differs from a in labels.txt: class 1 is 'wolf', not 'dog'"):
        entered(first, replace(published("b"), labels=("cat", "wolf")))
    sigmoid = published("b")
    sigmoid.manifest.output.activation = "sigmoid"
    with pytest.raises(ServingError, match=r"in output.activation: 'sigmoid', not ''"):
        entered(first, sigmoid)
    folded = published("b")
    folded.manifest.input.mean.append(0.5)
    assert len(entered(first, folded)) == 2


def test_members_whose_accuracies_say_nothing_of_each_other_are_refused() -> None:
    with pytest.raises(ServingError, match=r"group: auto: the certificate of b fp32 has no accuracy, since its images have no labels"):
        entered(published("a"), published("b", None))
    other = published("b")
    other.candidates[0].artifact.certificate.images_sha256 = other.candidates[0].artifact.certificate.images_source = "others"
    with pytest.raises(ServingError, match=r"b fp32 cannot be compared: its accuracy is of others, that of a of a thousand"):
        entered(published("a"), other)
    with pytest.raises(ServingError, match=r"group: auto has no member: a: damaged"):
        entries("auto", [replace(published("a"), candidates=(), refusal="damaged")], [])


def trial(member: str, engines: int, threads: int, rows: int, per_row: float, wide: bool = False) -> Trial:
    return Trial(member, engines, threads, rows, 1e-4 + per_row * rows, wide)


COSTS = {"r20 fp32": 1e-3, "r32 int8": 1.2e-3, "r32 fp32": 2e-3, "r56 fp32": 4e-3}
ACCURACIES = {"r20 fp32": 0.91, "r32 int8": 0.92, "r32 fp32": 0.92, "r56 fp32": 0.93}
ADDS = {"r20 fp32": 40, "r32 int8": 70, "r32 fp32": 70, "r56 fp32": 126}
FACTS = {label: MemberFacts(accuracy, label[4:], ADDS[label]) for label, accuracy in ACCURACIES.items()}


def trials(rows: tuple[int, ...] = (1, 2, 4, 8)) -> list[Trial]:
    found = [trial(member, 2, 1, count, cost) for member, cost in COSTS.items() for count in rows]
    return found + [trial(member, 1, 2, count, 0.9 * cost) for member, cost in COSTS.items() for count in rows]


def test_one_plan_is_made_for_all_and_only_the_front_is_in_it() -> None:
    plan = choose_for_group(trials(), FACTS, None, 2)
    assert members_of(plan) == ("r20 fp32", "r32 int8", "r56 fp32")
    assert (plan.engines, plan.threads) == (2, 1)
    assert costs(plan, "r56 fp32") == pytest.approx((1e-4, 4e-3))
    assert plan.throughput == pytest.approx(2 * plan.batch / (1e-4 * plan.batch**0 + 1.69e-3 * plan.batch), rel=0.1)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_latency_target_holds_for_the_slowest_member() -> None:
    plan = choose_for_group(trials(), FACTS, 0.017, 2)
    assert plan.batch <= 4
    assert choose_for_group(trials(), FACTS, 1e-4, 2).batch >= 1  # what cannot be kept is said, not refused


def test_a_disturbed_measurement_does_not_decide_who_is_a_member() -> None:
    measured = [t for t in trials() if t.precision != "r32 int8"]
    disturbed = [replace(t, seconds=9 * t.seconds, share=0.3) if t.precision == "r20 fp32" else t for t in measured]
    plan = choose_for_group(disturbed, FACTS, None, 2)
    assert members_of(plan) == ("r20 fp32", "r32 fp32", "r56 fp32")
    assert plan.doubtful
    assert costs(plan, "r56 fp32")[1] / costs(plan, "r20 fp32")[1] == pytest.approx(126 / 40)
    assert promising({"a": 100.0, "b": 50.0}, {"a": 0.9, "b": 0.9}, calm=False) == ["a", "b"]


def test_members_that_others_dominate_clearly_are_not_tried_to_the_end() -> None:
    assert promising({"a": 100.0, "b": 50.0}, {"a": 0.9, "b": 0.91}) == ["a", "b"]
    assert promising({"a": 100.0, "b": 50.0}, {"a": 0.9, "b": 0.9}) == ["a"]
    assert promising({"a": 100.0, "b": 95.0}, {"a": 0.9, "b": 0.9}) == ["a", "b"]
    assert promising({"a": 100.0, "b": 50.0}, {}) == ["a"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return Settings(tmp_path, groups=(Group("auto", ("a", "b")),))


def test_models_are_chosen_by_the_names_of_groups_too(settings: Settings) -> None:
    found = [published("a"), published("a", version="2"), published("b")]
    assert names_to_scan(settings) == ()
    assert alone(settings, found) == found
    assert [version.version for version in sources(settings, found)[0].versions] == ["2", "1"]
    only = replace(settings, models=("auto",))
    assert names_to_scan(only) == ("a", "b")
    assert alone(only, found) == []
    both = replace(settings, models=("b",))
    assert names_to_scan(both) == ("b",)
    assert sources(both, found) == []


def test_a_group_that_cannot_be_is_an_error_of_the_start(settings: Settings) -> None:
    check_groups(settings)
    for groups, complaint in (
        ((Group("auto", ("a", "c")),), r"group: auto: c not in .*; it holds a, b"),
        ((Group("a", ("b",)),), r"group: 'a' is a model of .*; expected another name"),
        ((Group("x", ("a",)), Group("x", ("b",))), r"group: 'x' is given twice"),
    ):
        with pytest.raises(StartError, match=complaint):
            check_groups(replace(settings, groups=groups))
    with pytest.raises(StartError, match=r"group: auto: b has no version in"):
        sources(settings, [published("a")])


def test_a_group_may_be_a_folder_of_the_repository(settings: Settings) -> None:
    file = settings.repository / "deep" / "group.toml"
    file.parent.mkdir()
    file.write_text('members = ["a", "b", "a"]')
    both = with_groups(settings)
    assert both.groups == (Group("auto", ("a", "b")), Group("deep", ("a", "b")))
    check_groups(both)
    with pytest.raises(StartError, match=r"group: 'deep' is given twice"):
        check_groups(replace(both, groups=(*both.groups, Group("deep", ("a",)))))
    for text, complaint in (
        ("members = []", r"deep/group.toml: members: \[\]; expected names of models, such as members = "),
        ('members = "a"', r"deep/group.toml: members: 'a'; expected names"),
        ("", r"members: None; expected names"),
        ("target = 3", r"deep/group.toml: 'target': is unknown; expected members"),
        ("members = [", r"deep/group.toml: is no TOML: "),
        ("#" * (1 << 17), r"is unknown; expected members, in at most 65536 bytes"),
    ):
        file.write_text(text)
        with pytest.raises(StartError, match=complaint):
            with_groups(settings)
    file.write_text('members = ["a"]')
    (file.parent / "1").mkdir()
    with pytest.raises(StartError, match=r"the folder has version 1, too; expected a model or a group"):
        with_groups(settings)
    assert with_groups(replace(settings, repository=settings.repository / "none")).groups == settings.groups


def test_groups_are_given_on_the_command_line_and_in_the_environment(tmp_path: Path) -> None:
    assert GroupOf().convert(" auto = r20 ,r56,r20", None, None) == Group("auto", ("r20", "r56"))
    for wrong in ("auto", "=r20", "auto=", "a/b=r20"):
        result = CliRunner().invoke(main, ["serve", "--repository", str(tmp_path), "--group", wrong])
        assert result.exit_code == 2
        assert f"'{wrong}'; expected a name and models, such as auto=resnet20,resnet56" in result.output
    result = CliRunner().invoke(main, ["plan", "--repository", str(tmp_path)], env={"RESNET_SERVER_GROUP": "one=a two=b"})
    assert result.exit_code == 1
    assert "group: one: a not in" in result.output


def request(**parameters: object) -> ModelInferRequest:
    message = ModelInferRequest()
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


def test_demands_are_read_from_numbers_and_strings_and_nothing_else() -> None:
    assert read_parameters(request(min_accuracy=0.5, max_depth=20)).demand == Demand(0.5, 20)
    assert read_parameters(request(min_accuracy="0.5")).demand == Demand(0.5)
    assert read_parameters(request(min_accuracy=1)).demand == Demand(1.0)
    assert read_parameters(request(min_accuracy=0, max_depth=0)).demand is ANY
    assert read_parameters(request(priority=1)).demand is ANY
    for wrong, complaint in (
        ({"min_accuracy": 92.0}, "parameters.min_accuracy: 92; expected 0 to 1"),
        ({"min_accuracy": float("nan")}, "parameters.min_accuracy: nan; expected 0 to 1"),
        ({"min_accuracy": -0.1}, "parameters.min_accuracy: -0.1; expected 0 to 1"),
        ({"min_accuracy": "best"}, "parameters.min_accuracy: 'best' as string_param; expected 0 to 1"),
        ({"min_accuracy": True}, "parameters.min_accuracy: True as bool_param; expected 0 to 1"),
        ({"max_depth": -1}, "parameters.max_depth: -1; expected a positive int64_param"),
        ({"max_depth": 2.5}, "parameters.max_depth: 2.5 as double_param; expected a positive int64_param"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            read_parameters(request(**wrong))
        assert str(caught.value).startswith(complaint)
