"""`python closed_loops.py PORT CALLERS`: callers of `test.Echo/Echo`, in a process of their own, until nobody listens there any more.

Prints `calling` once each has had an answer, and at the end how many calls ended how, as JSON. Nobody retries.
"""

import json
import sys
import threading
from collections import Counter
from typing import Any

import grpc

ALONE = [("grpc.use_local_subchannel_pool", 1)]  # else all callers of a process share one connection


def call_until_nobody_listens(port: str, ends: "Counter[str]", answered: threading.Semaphore) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=ALONE) as channel:
        method = channel.unary_unary("/test.Echo/Echo", None, None)
        told = False
        while True:
            try:
                method(b"x" * 100, timeout=10)
            except grpc.RpcError as error:
                failed: Any = error  # the stubs do not know that the error is the call
                if "failed to connect" in failed.details():
                    break
                ends[failed.code().name] += 1
            else:
                ends["OK"] += 1
                if not told:
                    answered.release()
                told = True


def main(port: str, callers: int) -> None:
    ends: Counter[str] = Counter()
    answered = threading.Semaphore(0)
    threads = [threading.Thread(target=call_until_nobody_listens, args=(port, ends, answered), daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for _ in threads:
        answered.acquire()
    print("calling", flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps(ends))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
