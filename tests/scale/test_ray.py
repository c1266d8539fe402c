"""Both shapes on a real Ray cluster of two nodes, one of which dies under load."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import ray
import tritonclient.grpc as triton
import yaml
from balancer import poll, running_envoy
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.schema import ServeDeploySchema
from ray_nodes import STORE, ray_cluster
from resnet_client import Client
from resnet_proto import open_inference_pb2 as oip
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_ray import placed, proxied
from resnet_ray.addresses import target
from resnet_ray.directory import directory
from retrying_load import IMAGES, Logits, RetryingLoad
from tritonclient.utils import InferenceServerException
from versions import add_version

# Of Ray: sockets and files left to the garbage collector, and deprecated ways of its own.
pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

MOST_SECONDS = 10.0  # until a node that was removed is replaced
PRECISION = "--precision fp32"  # else each server measures, and may choose another than its neighbour


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def retried(*codes: str) -> list[tuple[str, Any]]:
    """Options of a channel whose calls gRPC sends again after these statuses, spread over all addresses of the target."""
    policy = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 3, "retryableStatusCodes": list(codes)}
    config = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    return [("grpc.service_config", json.dumps(config))]


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def cluster(ports: tuple[int, int]) -> Iterator[Cluster]:
    with ray_cluster(*ports) as running:
        yield running


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[list[Any]]:
    """Two nodes for two replicas each."""
    added = [cluster.add_node(num_cpus=2, object_store_memory=STORE) for _ in range(2)]
    yield added
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def expected(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Logits:
    """What a server alone answers to IMAGES."""
    from serving import running_server

    with running_server(repository, tmp_path_factory.mktemp("alone") / "log", *PRECISION.split()) as server, Client(server.url) as client:
        return client.infer(IMAGES, model="resnet20")


def triton_input(images: "np.ndarray[Any, np.dtype[np.uint8]]") -> list[triton.InferInput]:
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    return [tensor]


def inference(row: int) -> oip.ModelInferRequest:
    image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 32, 32, 3])
    return oip.ModelInferRequest(model_name="resnet20", inputs=[image], raw_input_contents=[IMAGES[row].tobytes()])


def persistent(client: triton.InferenceServerClient, image: "np.ndarray[Any, np.dtype[np.uint8]]") -> tuple[int, Logits]:
    """An answer, and how often it was asked for again: Serve says INTERNAL where a replica died, which gRPC's own retries can't outlast."""
    for attempt in range(10):
        try:
            return attempt, client.infer("resnet20", triton_input(image)).as_numpy("logits")[0]
        except InferenceServerException as error:
            if error.status() not in ("StatusCode.UNAVAILABLE", "StatusCode.INTERNAL"):
                raise
            last = error
            threading.Event().wait(min(2.0, 0.05 * 2**attempt))
    raise last


def replicas() -> list[tuple[str, int]]:
    """Node id and process id of each living replica; the public way needs Ray's dashboard."""
    from ray._private.state import actors

    living = [actor for actor in actors().values() if "ServeReplica" in actor["ActorClassName"] and actor["State"] == "ALIVE"]
    return [(actor["Address"]["NodeID"], actor["Pid"]) for actor in living]


def alive_without(gone: Any) -> int:
    """How many replicas live elsewhere."""
    return sum(node != gone.node_id for node, _ in replicas())


def node_with_a_replica(nodes: list[Any]) -> Any:
    used = {node for node, _ in replicas()}
    found = [node for node in nodes if node.node_id in used]
    assert len(found) == len(nodes), "replicas spread over the nodes"
    return found[0]


def test_the_protocol_through_the_proxy_outlives_a_node(
    cluster: Cluster, nodes: list[Any], ports: tuple[int, int], repository: Path, expected: Logits
) -> None:
    serve.run(proxied.application({"repository": str(repository), "replicas": "2", "options": PRECISION}), name="resnet")
    client = triton.InferenceServerClient(f"127.0.0.1:{ports[0]}")
    assert client.is_server_live()
    assert client.is_model_ready("resnet20")
    assert client.get_model_metadata("resnet20").name == "resnet20"

    attempts: list[int] = []

    def call(row: int) -> Logits:
        attempt, logits = persistent(client, IMAGES[row : row + 1])
        attempts.append(attempt)
        return logits

    with RetryingLoad(call, expected, callers=4) as load:
        load.wait_for_more(100, 120)
        leaving, removed = node_with_a_replica(nodes), time.monotonic()
        cluster.remove_node(leaving, allow_graceful=False)
        poll(lambda: alive_without(leaving) == running_replicas("resnet") == 2, "a replica in its place", 120)
        tell("proxied", seconds=time.monotonic() - removed, answered=load.answered, sent_again=sum(attempts))
        load.wait_for_more(100, 120)
    assert not load.problems

    with pytest.raises(InferenceServerException) as caught:
        client.infer("resnet9000", triton_input(IMAGES[:1]))
    assert "NOT_FOUND" in caught.value.status()
    with pytest.raises(InferenceServerException) as caught:  # `timeout` is the deadline, in microseconds, that the proxy passes on
        client.infer("resnet20", triton_input(IMAGES[:1]), timeout=1)
    assert "DEADLINE_EXCEEDED" in caught.value.status()
    client.close()
    serve.delete("resnet")


def tell(shape: str, **figures: float) -> None:
    """Print how long a node was missed, which must not be long, and add it to the results that SCALE_RESULTS names."""
    print(f"{shape}: two again {figures['seconds']:.1f} s after a node went; {figures}")
    if path := os.environ.get("SCALE_RESULTS"):
        found = json.loads(Path(path).read_text())
        found.setdefault("removals", []).append({"shape": shape, **figures})
        Path(path).write_text(json.dumps(found, indent=1) + "\n")
        assert figures["seconds"] <= MOST_SECONDS  # on a calm machine


def addresses() -> list[str]:
    found: list[str] = ray.get(directory().addresses.remote())
    return found


def deploy_placed(archive: str, **args: Any) -> None:
    """The configuration that is shipped, with a repository by URL, as `serve deploy` would."""
    config = yaml.safe_load((Path(placed.__file__).parents[1] / "placed.yaml").read_text())
    (application,) = config["applications"]
    application["runtime_env"] = {"working_dir": f"file://{archive}"}
    application["args"] = {"repository": ".", "options": PRECISION, **args}
    serve.context._get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def running_replicas(name: str) -> int:
    (deployment,) = serve.status().applications[name].deployments.values()
    return int(deployment.replica_states.get("RUNNING", 0))


def test_placed_servers_are_called_directly_and_outlive_a_node(
    cluster: Cluster, nodes: list[Any], repository: Path, expected: Logits, tmp_path: Path
) -> None:
    serve.run(placed.application({"repository": str(repository), "replicas": "2", "options": PRECISION}), name="placed", route_prefix=None)

    poll(lambda: len(addresses()) == 2, "two addresses", 120)
    before = addresses()
    printed = subprocess.run(
        [sys.executable, "-m", "resnet_ray.endpoints", "--address", cluster.address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert printed.stdout.strip() == target(before)

    with grpc.insecure_channel(target(before), options=retried("UNAVAILABLE")) as channel:
        stub = GRPCInferenceServiceStub(channel)

        def call(row: int) -> Logits:
            return np.frombuffer(stub.ModelInfer(inference(row), timeout=60).raw_output_contents[0], "<f4")

        with RetryingLoad(call, expected, callers=4) as load:
            load.wait_for_more(100, 120)
            leaving, removed = node_with_a_replica(nodes), time.monotonic()
            cluster.remove_node(leaving, allow_graceful=False)
            poll(lambda: len(addresses()) == 2 and addresses() != before, "a server in its place", 120)
            tell("placed", seconds=time.monotonic() - removed, answered=load.answered)
    assert not load.problems
    (gone,) = set(before) - set(addresses())
    with socket.socket() as probe:
        assert probe.connect_ex((gone.rpartition(":")[0], int(gone.rpartition(":")[2]))), "the server of the node outlived it"
    serve.delete("placed")
    poll(lambda: not addresses(), "an empty directory", 60)


def test_the_shipped_configuration_with_a_repository_by_url_scales_with_the_load(
    cluster: Cluster, nodes: list[Any], repository: Path, expected: Logits, tmp_path: Path
) -> None:
    """Any load at all is more than these thresholds allow one replica."""
    archive = shutil.make_archive(str(tmp_path / "repository-1"), "zip", repository.parent, repository.name)
    deploy_placed(archive, replicas=1, max_replicas=2, waiting_seconds=0.01, demand=0.05)
    poll(lambda: len(addresses()) == 1, "one address", 180)
    (alone,), (victim,) = addresses(), servers_of_replicas()
    with Client(alone) as client, RetryingLoad(lambda row: client.infer(IMAGES[row : row + 1], model="resnet20")[0], expected, 4) as load:
        poll(lambda: len(addresses()) == 2, "a second server for the load", 180)
    assert not load.problems
    os.kill(victim, signal.SIGKILL)
    poll(lambda: alone not in addresses(), "the end of the killed server's lease", 60)
    poll(lambda: len(addresses()) == 2, "a server in its place", 180)
    serve.delete("resnet-placed")


def test_a_new_version_replaces_the_old_one_under_load(
    cluster: Cluster, nodes: list[Any], repository: Path, expected: Logits, tmp_path: Path
) -> None:
    """Callers go through Envoy, whose file `resnet_ray.endpoints` keeps current while servers go and others come."""
    shutil.copytree(repository / "resnet20", tmp_path / "repository" / "resnet20")
    first = shutil.make_archive(str(tmp_path / "repository-1"), "zip", tmp_path, "repository")
    add_version(tmp_path / "repository" / "resnet20", "2")
    second = shutil.make_archive(str(tmp_path / "repository-2"), "zip", tmp_path, "repository")
    deploy_placed(first, replicas=2, host="127.0.0.1")
    poll(lambda: len(addresses()) == 2, "two addresses", 180)
    versions: list[str] = []
    with ExitStack() as stack:
        balancer = stack.enter_context(running_envoy(tmp_path, addresses()))
        command = [sys.executable, "-m", "resnet_ray.endpoints", str(balancer.endpoints), "--address", cluster.address]
        keeper = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(keeper.kill)
        stub = GRPCInferenceServiceStub(stack.enter_context(grpc.insecure_channel(balancer.url, options=retried("UNAVAILABLE"))))

        def call(row: int) -> Logits:
            answer = stub.ModelInfer(inference(row), timeout=60)
            versions.append(answer.model_version)
            return np.frombuffer(answer.raw_output_contents[0], "<f4")

        with RetryingLoad(call, expected, callers=4) as load:
            load.wait_for_more(100, 120)
            deploy_placed(second, replicas=2, host="127.0.0.1")
            poll(lambda: set(versions[-200:]) == {"2"} or load.problems, "answers of the new version alone", 180)
    assert not load.problems
    assert set(versions[:50]) == {"1"}
    serve.delete("resnet-placed")


def servers_of_replicas() -> list[int]:
    """Process ids of the servers that replicas started."""
    children = [path.read_text().split() for _, pid in replicas() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(pid) for pids in children for pid in pids if b"resnet_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
