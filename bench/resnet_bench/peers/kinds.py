"""The peers by name."""

from resnet_bench.peers import litserve, mlserver, triton
from resnet_bench.peers.peer import Starter

OURS = "ours"
PEERS: dict[str, Starter] = {
    "triton": triton.start_tuned,
    "triton-defaults": triton.start_defaults,
    "mlserver": mlserver.start,
    "litserve": litserve.start,
}
