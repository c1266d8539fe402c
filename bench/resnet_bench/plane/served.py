"""What a server says of a group, what its members answer to labelled images, and traces sent to it in real time."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.routing.simulator import Times

from resnet_bench.drivers.open_loop import connected, new_loop
from resnet_bench.errors import BenchError
from resnet_bench.plane.record import MemberRecord, Point
from resnet_bench.plane.simulated import Right, asked_images
from resnet_bench.requests import DISTINCT, METHOD
from resnet_bench.subject import served
from resnet_bench.target import details_of

CHUNK = 8
BEFORE_SECONDS = 0.5
IN_FLIGHT, WARM_SECONDS, SATURATE_SECONDS = 32, 0.5, 2.5
T = TypeVar("T")
OPTIONS = [("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class GroupAt:
    """A group of a running server: its members, engines, and rows of a batch."""

    url: str
    name: str
    members: tuple[MemberRecord, ...]
    engines: int
    batch: int


@dataclass(frozen=True)
class Labelled:
    """UINT8 [n, h, w, 3], and the right class of each."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def group_at(url: str, name: str) -> GroupAt:
    """Ask a server; raises BenchError where it has no such group."""
    models = served(url) or {}
    if name not in models or not models[name].members:
        groups = [model for model, known in models.items() if known.members]
        raise BenchError(f"group: '{name}' is not served at {url}; groups there: {', '.join(groups) or 'none'}")
    model = models[name]
    members = tuple(
        MemberRecord(one.name, one.precision, one.depth, one.accuracy, one.fixed_seconds, one.per_row_seconds) for one in model.members
    )
    return GroupAt(url, name, members, model.engines, model.batch_rows)


def read_labelled(path: Path) -> Labelled:
    """From an .npz with `images` and `labels`; raises BenchError for anything else."""
    try:
        with np.load(path) as file:
            images, labels = file["images"], file["labels"].astype(np.int64).reshape(-1)
    except (OSError, KeyError, ValueError) as error:
        raise BenchError(f"labelled: {path}: expected an .npz with images and labels ({error})") from None
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels) or not len(images):
        raise BenchError(
            f"labelled: {path}: images {images.dtype} {list(images.shape)} and {len(labels)} labels; expected UINT8 [n, h, w, 3]"
        )
    return Labelled(images, labels)


def request(name: str, rows: NDArray[np.uint8], member: MemberRecord | None = None) -> pb.ModelInferRequest:
    """Of some rows; by one member alone where it is given."""
    message = pb.ModelInferRequest(model_name=name, raw_input_contents=(rows.tobytes(),))
    message.inputs.add(name="image", datatype="UINT8", shape=rows.shape)
    if member is not None:
        message.parameters["min_accuracy"].double_param = member.accuracy
        message.parameters["max_depth"].int64_param = member.depth
    return message


def classes(answer: pb.ModelInferResponse) -> NDArray[np.int64]:
    """The likeliest of each row."""
    logits = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(tuple(answer.outputs[0].shape))
    return np.asarray(logits.argmax(1), np.int64)


def label_of(answer: pb.ModelInferResponse) -> str:
    """Who answered."""
    return f"{answer.parameters['network'].string_param} {answer.parameters['precision'].string_param}"


def right_answers(group: GroupAt, labelled: Labelled) -> Right:
    """Ask each member for all labelled images. Raises BenchError where another one answers: their bounds overlap."""
    found: dict[str, NDArray[np.bool_]] = {}
    with grpc.insecure_channel(group.url, options=OPTIONS) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for member in group.members:
            parts = []
            for start in range(0, len(labelled.images), CHUNK):
                rows = labelled.images[start : start + CHUNK]
                try:
                    answer = stub.ModelInfer(request(group.name, rows, member))
                except grpc.RpcError as error:
                    raise BenchError(f"labelled: {member.label}: {details_of(error)}") from None
                if label_of(answer) != member.label:
                    raise BenchError(f"labelled: {label_of(answer)} answers where {member.label} alone was asked for")
                parts.append(classes(answer) == labelled.labels[start : start + CHUNK])
            found[member.label] = np.concatenate(parts)
    return found


def with_measured(members: Sequence[MemberRecord], right: Right) -> tuple[MemberRecord, ...]:
    """The members, with what they get right of the labelled images."""
    return tuple(replace(one, measured=float(right[one.label].mean())) if right else one for one in members)


def capacities(group: GroupAt, labelled: Labelled) -> tuple[MemberRecord, ...]:
    """The members, with the images a second that each answers alone to IN_FLIGHT callers of single images: all costs of serving count."""
    return tuple(replace(member, served=on_exact_loop(_saturate(group, member, labelled))) for member in group.members)


def drive(group: GroupAt, load: str, method: str, seed: int, arrivals: Times, deadline: float, labelled: Labelled) -> Point:
    """Send a trace as it comes, one image a call with this deadline; `method`: "auto", or the label of the member to ask for."""
    return on_exact_loop(_drive(group, load, method, seed, arrivals, deadline, labelled))


def on_exact_loop(work: Coroutine[Any, Any, T]) -> T:
    """On an event loop whose timers are exact to microseconds."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)


def messages_of(group: GroupAt, labelled: Labelled, method: str) -> list[bytes]:
    """A call for each image, as it goes out."""
    member = next((one for one in group.members if one.label == method), None)
    images = labelled.images
    return [request(group.name, images[number : number + 1], member).SerializeToString() for number in range(len(images))]


async def _saturate(group: GroupAt, member: MemberRecord, labelled: Labelled) -> float:
    messages, counted, numbers = messages_of(group, first_of(labelled, DISTINCT), member.label), 0, count()
    (channel,) = await connected(group.url, 1)
    method: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
    begins = time.monotonic() + WARM_SECONDS
    ends = begins + SATURATE_SECONDS

    async def caller() -> None:
        nonlocal counted
        while time.monotonic() < ends:
            await method(messages[next(numbers) % len(messages)])
            counted += begins <= time.monotonic() < ends

    try:
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    except grpc.aio.AioRpcError as error:
        raise BenchError(f"group: {member.label}: {error.details()}") from None
    finally:
        await channel.close(None)
    return counted / SATURATE_SECONDS


def first_of(labelled: Labelled, most: int) -> Labelled:
    """The first of them."""
    return Labelled(labelled.images[:most], labelled.labels[:most])


async def _drive(group: GroupAt, load: str, method: str, seed: int, arrivals: Times, deadline: float, labelled: Labelled) -> Point:
    messages, answers = messages_of(group, labelled, method), list[tuple[int, bytes]]()
    asked = asked_images(len(messages), len(arrivals), seed).tolist()
    (channel,) = await connected(group.url, 1)
    send: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)

    async def call(number: int) -> None:
        image = asked[number]
        with suppress(grpc.aio.AioRpcError):
            answers.append((image, await send(messages[image], timeout=deadline)))

    begin, calls = time.monotonic() + BEFORE_SECONDS, []
    for number, at in enumerate(arrivals.tolist()):
        if (wait := begin + at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        calls.append(asyncio.ensure_future(call(number)))
    await asyncio.gather(*calls)
    await channel.close(None)
    by_member: dict[str, int] = {}
    right = 0
    for image, data in answers:  # read once nobody waits for this process any more
        answer = pb.ModelInferResponse.FromString(data)
        by_member[label_of(answer)] = by_member.get(label_of(answer), 0) + 1
        right += int(classes(answer)[0] == labelled.labels[image])
    share = len(answers) / max(1, len(arrivals))
    return Point(load, method, seed, len(arrivals), share, right / max(1, len(answers)), None, by_member, real=True)
