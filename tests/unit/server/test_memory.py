"""The allocator of a process that receives large messages: what they took is used again, and given back once they have stopped."""

import subprocess
import sys

from resnet_server.processes.memory import GROWTH, KeptMemory

FAULTS = """
import resource
from resnet_server.processes.memory import KeptMemory, keep_large_memory, resident

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_large_memory()
memory, before = KeptMemory(), resident()
bytearray(60 << 20)
first = faults()
bytearray(60 << 20)
again, kept = faults() - first, resident() - before
memory.look()
print(again, kept, resident() - before)
"""


def test_the_memory_of_a_large_message_is_used_again_and_given_back_later() -> None:
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    faults, kept, left = map(int, found.stdout.split())
    assert faults < 1000
    assert kept > 50 << 20
    assert left < GROWTH


def test_memory_is_given_back_where_the_process_has_grown_since() -> None:
    sizes, trims = [0], []

    def give_back() -> None:
        trims.append(sizes[0])
        sizes[0] -= 10

    memory = KeptMemory(lambda: sizes[0], give_back)
    for size, expected in (
        (GROWTH, 0),
        (GROWTH + 1, 1),
        (GROWTH + GROWTH // 2, 1),
        (2 * GROWTH, 2),
        (5, 2),
        (GROWTH + 5, 2),
        (GROWTH + 6, 3),
    ):
        sizes[0] = size
        memory.look()
        assert len(trims) == expected, size
