"""A group follows its members while it serves: a whole server in this process, real sockets, real engines, Triton's own client."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from in_process import running_app
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2
from resnet_proto.manifest_pb2 import Manifest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.models import served_model
from resnet_server.settings import Group
from tritonclient.utils import InferenceServerException
from versions import add_version, without_certificate

MEMBERS = ("resnet20", "resnet56")
SMALL: dict[str, Any] = {"engines": 1, "threads": 1, "max_batch": 2, "plan_seconds": 0.05}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "LET_GO_SECONDS", 0.05)


@pytest.fixture
def two(released_repository: Path, tmp_path: Path) -> Path:
    """A repository of two released networks, that the test may change."""
    for name in MEMBERS:
        shutil.copytree(released_repository / name, tmp_path / "two" / name)
    return tmp_path / "two"


class Grouped:
    """A server with a group, and a client."""

    def __init__(self, address: str, client: Any) -> None:
        self.address, self.client = address, client

    def infer(self, model: str = "auto", **parameters: Any) -> dict[str, Any]:
        """What an answer's parameters say."""
        images = load_sample().images[:1]
        tensor = triton.InferInput("image", images.shape, "UINT8")
        tensor.set_data_from_numpy(images)
        given = self.client.infer(model, [tensor], parameters=parameters).get_response().parameters
        return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in given.items()}

    def properties(self) -> dict[str, str]:
        """Of the group."""
        with grpc.insecure_channel(self.address) as channel:
            asked = open_inference_pb2.ModelMetadataRequest(name="auto")
            return dict(GRPCInferenceServiceStub(channel).ModelMetadata(asked).properties)

    def members(self) -> dict[str, str]:
        """The version of each member, as metadata says."""
        described = self.properties()["members"].split("; ")
        return {text.split(" ")[0]: text.split("version ")[1].split(":")[0] for text in described}

    def index(self) -> dict[str, tuple[str, str]]:
        """State and reason by name."""
        found = self.client.get_model_repository_index(as_json=True).get("models", [])
        return {one["name"]: (one["state"], one.get("reason", "")) for one in found}


@contextmanager
def serving(repository: Path, plans: Path, **given: Any) -> Iterator[Grouped]:
    own = {"model_control": "explicit", "open_admin": True, "precision": "fp32", "groups": (Group("auto", MEMBERS),), **SMALL, **given}
    with running_app(repository, plans, **own) as app, triton.InferenceServerClient(app.grpc_address) as client:
        yield Grouped(app.grpc_address, client)


def refusal(client: Any, name: str) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as error:
        client.load_model(name)
    return str(error.value.status()).removeprefix("StatusCode."), str(error.value.message())


def less_accurate(manifest: Manifest) -> None:
    """More wrong answers than the shallow member's."""
    manifest.source.accuracy -= 10


def test_another_version_of_a_member_renews_the_group_while_it_answers(two: Path, plans: Path) -> None:
    stop = threading.Event()
    with serving(two, plans) as server, ThreadPoolExecutor(4) as pool:

        def call() -> set[str]:
            versions = set()
            with triton.InferenceServerClient(server.address) as client:
                own = Grouped(server.address, client)
                while not stop.is_set():
                    versions.add(own.infer(min_accuracy=0.92)["network_version"])
            return versions

        callers = [pool.submit(call) for _ in range(4)]
        try:
            assert server.members() == {"resnet20": "1", "resnet56": "1"}
            add_version(two / "resnet56", "2")
            server.client.load_model("resnet56")
            assert server.members() == {"resnet20": "1", "resnet56": "2"}
            assert server.infer(min_accuracy=0.92)["network_version"] == "2"
        finally:
            stop.set()
        assert set().union(*(caller.result() for caller in callers)) <= {"1", "2"}  # and none failed
        assert server.index() == dict.fromkeys((*MEMBERS, "auto"), ("READY", ""))


def test_a_member_that_became_less_accurate_leaves_the_front_and_one_that_is_unloaded_the_group(two: Path, plans: Path) -> None:
    with serving(two, plans) as server:
        add_version(two / "resnet56", "2", less_accurate)
        server.client.load_model("resnet56")
        assert server.members() == {"resnet20": "1"}
        assert server.infer()["network"] == "resnet20"
        shutil.rmtree(two / "resnet56" / "2")
        server.client.load_model("resnet56")
        assert server.members() == {"resnet20": "1", "resnet56": "1"}
        server.client.unload_model("resnet20")
        assert server.members() == {"resnet56": "1"}
        assert server.properties()["left_out"] == "resnet20: not in service"
        server.client.unload_model("resnet56")
        assert server.index()["auto"] == ("UNAVAILABLE", "group: auto has no member: none of its models is in service")
        with pytest.raises(InferenceServerException, match="model 'auto' version 1 is refused: group: auto has no member"):
            server.infer()
        server.client.load_model("resnet20")
        assert server.members() == {"resnet20": "1"}


def test_a_member_that_is_refused_leaves_the_group_as_it_was_and_one_that_has_no_certificate_is_named(two: Path, plans: Path) -> None:
    with serving(two, plans) as server:
        add_version(two / "resnet56", "2", without_certificate)
        assert refusal(server.client, "resnet56")[1].endswith("; in service: version 1")
        assert server.members() == {"resnet20": "1", "resnet56": "1"}
        shutil.rmtree(two / "resnet56" / "2")
        add_version(two / "resnet56", "2", lambda manifest: setattr(manifest.output, "activation", "sigmoid"))
        code, text = refusal(server.client, "resnet56")
        assert code == "FAILED_PRECONDITION"
        reason = "group: auto: resnet56 differs from resnet20 in output.activation: 'sigmoid', not 'softmax'"
        assert text == f"model 'auto' version 1 is refused: {reason}; in service: version 1"
        assert server.index()["auto"] == ("READY", f"as before; what is in the repository now is refused: {reason}")
        assert server.members() == {"resnet20": "1", "resnet56": "1"}  # as it was, though the member serves its second version
        assert server.infer("resnet56").keys().isdisjoint({"network"})


def test_a_group_is_unloaded_and_loaded_like_a_model(two: Path, plans: Path) -> None:
    with serving(two, plans) as server:
        server.client.unload_model("auto")
        assert server.index()["auto"] == ("UNAVAILABLE", "unloaded")
        add_version(two / "resnet56", "2")
        server.client.load_model("resnet56")
        assert server.index()["auto"] == ("UNAVAILABLE", "unloaded")  # nobody has asked for it
        server.client.load_model("auto")
        assert server.members() == {"resnet20": "1", "resnet56": "2"}


def test_a_group_alone_follows_the_repository_when_it_is_polled(two: Path, plans: Path) -> None:
    (two / "auto").mkdir()
    (two / "auto" / "group.toml").write_text('members = ["resnet20", "resnet56"]')
    with serving(two, plans, groups=(), models=("auto",), model_control="poll", poll_seconds=0.05) as server:
        assert list(server.index()) == ["auto"]
        add_version(two / "resnet56", "2")
        until = time.monotonic() + 60
        while server.infer(min_accuracy=0.92)["network_version"] == "1":  # answers all the while
            assert time.monotonic() < until
        assert server.members() == {"resnet20": "1", "resnet56": "2"}
        assert list(server.index()) == ["auto"]
