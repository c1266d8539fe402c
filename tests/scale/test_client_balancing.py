"""gRPC's own balancing over the addresses of a name, as behind a headless Service: real servers, and a name server that a test changes."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
from balancer import poll
from name_server import running_name_server
from resnet_proto import open_inference_pb2 as oip
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from retrying_load import IMAGES, Logits, RetryingLoad, answers_of
from scraping import counted
from serving import RunningServer, running_server

AGE, RESOLVED_SECONDS = 2.0, 0.5
SMALL = ("--engines", "1", "--threads", "1", "--precision", "fp32", "--http-port", "off", "--max-connection-age", f"{AGE:g}s")


def answered(server: RunningServer) -> float:
    return counted(server, "resnet_requests_total", method="ModelInfer", status="OK")


def test_an_added_server_gets_its_share_within_the_age_of_a_connection(repository: Path, tmp_path: Path) -> None:
    """Nobody sends a call again here: connections that end of age lose none."""
    with ExitStack() as stack:
        first = stack.enter_context(running_server(repository, tmp_path / "log1", *SMALL))
        port = first.url.rpartition(":")[2]

        def server_at(host: str) -> RunningServer:
            place = ("--host", host, "--grpc-port", port, "--metrics-host", "127.0.0.1")
            return stack.enter_context(running_server(repository, tmp_path / f"log {host}", *SMALL, *place))

        expected, second = answers_of(first.url), server_at("127.0.0.2")
        names = stack.enter_context(running_name_server(["127.0.0.1", "127.0.0.2"]))
        config = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
        options = [("grpc.service_config", config), ("grpc.dns_min_time_between_resolutions_ms", round(1e3 * RESOLVED_SECONDS))]
        channel = stack.enter_context(grpc.insecure_channel(f"dns://127.0.0.1:{names.port}/servers.test:{port}", options=options))
        stub = GRPCInferenceServiceStub(channel)

        def call(row: int) -> Logits:
            image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 32, 32, 3])
            request = oip.ModelInferRequest(model_name="resnet20", inputs=[image], raw_input_contents=[IMAGES[row].tobytes()])
            return np.frombuffer(stub.ModelInfer(request, timeout=30).raw_output_contents[0], "<f4")

        with RetryingLoad(call, expected) as load:
            load.wait_for_more(200)
            third, before = server_at("127.0.0.3"), time.monotonic()
            names.addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
            poll(lambda: answered(third) > 0, "calls at the added server")
            took = time.monotonic() - before
            load.wait_for_more(50)
            counts = np.array([answered(server) for server in (first, second, third)])
            load.wait_for_more(900)
            shares = np.array([answered(server) for server in (first, second, third)]) - counts
        assert not load.problems
    print(f"client's own balancing: calls at the added server {took:.1f} s after its name; then {shares.tolist()}")
    assert took <= 1.1 * AGE + RESOLVED_SECONDS + 1
    assert np.abs(shares / shares.mean() - 1).max() <= 0.1, shares
