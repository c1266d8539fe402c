"""A Ray cluster of real raylets on this machine: a head that runs no replica, and nodes that come and go."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import gRPCOptions

SERVICER = "resnet_proto.open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
STORE = 80 << 20
# A node that is gone is noticed within two seconds instead of fifteen.
QUICK = {
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}


@contextmanager
def ray_cluster(grpc_port: int, http_port: int) -> Iterator[Cluster]:
    """A head with Serve and its proxies; taken down at the end."""
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False, namespace="resnet-serving")
        options = gRPCOptions(port=grpc_port, grpc_servicer_functions=[SERVICER])
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": http_port}, grpc_options=options)
        yield cluster
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()
