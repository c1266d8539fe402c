"""A server that answers ModelInfer with zeros, in a process of its own; argument: the way its handler is written."""

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pkgutil import resolve_name
from typing import Any

import grpc
import numpy as np
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

from resnet_bench.handlers.ways import CLASSES, THREAD_POOL, THREADS, WAYS, Way

SERVICE = "inference.GRPCInferenceService"
LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
ANSWER = ModelInferResponse(model_name="bare", raw_output_contents=(bytes(4 * CLASSES),)).SerializeToString()


def raw_answer(message: bytes) -> bytes:
    """The same bytes for everyone, as a server does that knows a request again and has its answer's head ready."""
    return ANSWER


def parsed_answer(request: ModelInferRequest) -> ModelInferResponse:
    """Read and write messages, as generated code has it."""
    images = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(tuple(request.inputs[0].shape))
    response = ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    response.outputs.add(name="logits", datatype="FP32", shape=(len(images), CLASSES))
    response.raw_output_contents.append(bytes(4 * CLASSES * len(images)))
    return response


def handlers_of(way: Way) -> Any:
    """The service's one method, in this way."""
    answer = parsed_answer if way.protobuf else raw_answer
    reads = ModelInferRequest.FromString if way.protobuf else None
    writes = ModelInferResponse.SerializeToString if way.protobuf else None

    async def on_loop(request: Any, _: Any) -> Any:
        return answer(request)

    def on_thread(request: Any, _: Any) -> Any:
        return answer(request)

    behaviour = on_thread if way.server == THREAD_POOL else on_loop
    method = grpc.unary_unary_rpc_method_handler(behaviour, reads, writes)
    return grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})


async def serve_on_loop(way: Way) -> None:
    """Until killed."""
    server = resolve_name(way.server)(options=LIMIT)
    server.add_generic_rpc_handlers((handlers_of(way),))
    if way.direct:
        server.add_direct_method(f"/{SERVICE}/ModelInfer", lambda message, call: call.answer(raw_answer(message)))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(way, port)
    await server.wait_for_termination()


def serve_on_threads(way: Way) -> None:
    """Until killed."""
    server = resolve_name(way.server)(ThreadPoolExecutor(THREADS), options=LIMIT)
    server.add_generic_rpc_handlers((handlers_of(way),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(way, port)
    server.wait_for_termination()


def announce(way: Way, port: int) -> None:
    """Say where it listens, start-up being over."""
    if way.frozen:
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve in the way named by the argument."""
    way = WAYS[sys.argv[1]]
    if way.server == THREAD_POOL:
        serve_on_threads(way)
    elif way.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_on_loop(way))
    else:
        asyncio.run(serve_on_loop(way))


if __name__ == "__main__":
    main()
