"""Decoders: right pixels, and an end to whatever hostile bytes begin."""

import asyncio
import contextlib
import gc
import io
import os
import signal
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from attacks import flood_of_chunks, many_scans, padded_markers
from PIL import Image
from processes import children, descendants, processor_seconds, wait_for_end
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import preprocess
from resnet_server.endpoints.decoding.budget import WaitingBudget
from resnet_server.endpoints.decoding.cost import MOST_SCANS, cost_of
from resnet_server.endpoints.decoding.pool import DecoderPool
from resnet_server.errors import DeadlineError, InvalidRequestError

SPEC = Input(name="image", height=24, width=24, channels=3, resize_shorter_side=32, interpolation="bilinear")
MEBIBYTE = 1 << 20
PIXELS = 3_000_000


@asynccontextmanager
async def decoding(
    size: int = 2, max_bytes: int = 256 * MEBIBYTE, max_pixels: int = 50_000_000, seconds: float = 10.0
) -> AsyncIterator[tuple[DecoderPool, WaitingBudget]]:
    budget = WaitingBudget(max_bytes)
    pool = DecoderPool(size, max_pixels, budget, seconds)
    try:
        yield pool, budget
    finally:
        await pool.close()


def encoded(width: int, height: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    tile = np.random.default_rng(width).integers(0, 256, (8, 8, 3), np.uint8)
    pixels = np.tile(tile, (height // 8 + 1, width // 8 + 1, 1))[:height, :width]
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def templates() -> list[int]:
    """Process ids of what this process forks its decoders from."""
    return children(os.getpid(), "resnet_server.endpoints.decoding.worker")


def decoders() -> list[int]:
    """Process ids of those that it has forked; servers of other tests, which run beside this one, have theirs."""
    return [pid for template in templates() for pid in descendants(template)]


async def at_work() -> list[int]:
    """Process ids of the decoders that have computed for a while, once there are some; their work has no event to wait for."""
    while True:
        if busy := [pid for pid in decoders() if processor_seconds(pid) > 0.1]:
            return busy
        await asyncio.sleep(0)


async def test_small_and_large_images_in_one_call_are_what_one_function_makes_of_them() -> None:
    images = [encoded(40 + index, 30, "PNG") for index in range(20)] + [encoded(2400, 2000), encoded(30, 50, "WEBP")]
    async with decoding() as (pool, budget):
        rows = await pool.decode(images, SPEC, None)
        for row, image in zip(rows, images, strict=True):
            np.testing.assert_array_equal(row, preprocess(image, SPEC))
        assert budget.held == 0


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "images[1]: 0 bytes cannot be decoded: not a JPEG, PNG or WebP image"),
        (b"\xff\xd8" + bytes(100), "images[1]: 102 bytes cannot be decoded"),
        (many_scans(64, 64, MOST_SCANS + 1), "images[1]: a JPEG of 65 scans; expected at most 64"),
        (flood_of_chunks(10_000), "images[1]: 120069 bytes cannot be decoded: more than 4330 chunks, markers or other pieces"),
        (flood_of_chunks(500_000), "bytes cannot be decoded: more than"),
        (flood_of_chunks(10_000, b"IDAT"), "images[1]: 120069 bytes cannot be decoded: more than 4330 chunks"),
        (flood_of_chunks(0, after=10_000), "images[1]: 120069 bytes cannot be decoded: more than 4330 chunks"),
        (padded_markers(10_000), "bytes cannot be decoded: more than"),
        (encoded(8000, 7000, "PNG"), "images[1]: 8000x7000 pixels; expected at most 50000000"),
        (encoded(7000, 7000, "PNG", "RGBA"), "bytes to decode; expected at most 268435456"),
    ],
    ids=["empty", "no image", "scans", "chunks", "large, chunks", "empty pixels", "chunks after pixels", "padding", "pixels", "bytes"],
)
async def test_an_image_above_a_bound_is_named_and_its_neighbours_live(image: bytes, text: str) -> None:
    good = encoded(40, 40, "PNG")
    async with decoding() as (pool, _):
        with pytest.raises(InvalidRequestError) as error:
            await pool.decode([good, image], SPEC, None)
        assert text in str(error.value)
        assert (await pool.decode([good], SPEC, None)).shape == (1, 24, 24, 3)


@pytest.mark.parametrize("image", [b"none", bytes(300_000), flood_of_chunks(10_000)], ids=["small", "large", "chunks"])
async def test_a_refused_image_is_kept_by_nobody(image: bytes) -> None:
    """Not even until the collector comes, which in a server is long after a gigabyte of them."""

    async def refused(pool: DecoderPool) -> "weakref.ref[memoryview]":
        view = memoryview(image)
        with contextlib.suppress(InvalidRequestError):
            await pool.decode([view], SPEC, None)
        return weakref.ref(view)

    async with decoding() as (pool, _):
        await pool.decode([encoded(40, 40)], SPEC, None)
        gc.disable()
        try:
            left = await refused(pool)
            await asyncio.sleep(0)  # for what the loop has in hand
            assert left() is None
        finally:
            gc.enable()


async def test_the_bytes_of_a_wide_mode_are_counted() -> None:
    jpeg, png, wide = (
        cost_of(data).held / PIXELS for data in (encoded(2000, 1500), encoded(2000, 1500, "PNG"), encoded(2000, 1500, "PNG", "RGBA"))
    )
    assert 8 <= png < 8.1 < wide
    assert 8 <= jpeg < 9
    assert cost_of(encoded(2000, 1500, progressive=True)).held / PIXELS > jpeg + 5


async def test_what_a_header_does_not_say_ends_with_the_processor_time_it_may_take() -> None:
    async with decoding(seconds=0.1) as (pool, _):
        with pytest.raises(InvalidRequestError, match=r"images\[0\]: cannot be decoded within 0.1 s of processor time"):
            await pool.decode([many_scans(4000, 4000, MOST_SCANS)], SPEC, None)
        assert (await pool.decode([encoded(40, 40)], SPEC, None)).shape == (1, 24, 24, 3)


async def test_a_decode_ends_with_its_call() -> None:
    scans = [many_scans(4000, 4000, MOST_SCANS)] * 64
    async with decoding(seconds=1000.0) as (pool, budget):  # so that nothing but the kill ends it
        with pytest.raises(DeadlineError, match="while the images were decoded"):
            await pool.decode(scans, SPEC, 0.5)
        left = asyncio.ensure_future(pool.decode(scans, SPEC, None))
        busy = await asyncio.wait_for(at_work(), 60)
        left.cancel()
        await asyncio.wait((left,))
        assert budget.held == 0
        for pid in busy:
            wait_for_end(pid)


class SeenBudget(WaitingBudget):
    """Remembers the most that was held."""

    most_held = 0

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        async with super().taken(count):
            self.most_held = max(self.most_held, self.held)
            yield


async def test_photographs_wait_for_the_memory_that_a_few_may_take() -> None:
    photographs = [encoded(2400, 2000)] * 4
    need = cost_of(photographs[0]).held
    budget = SeenBudget(2 * need)
    pool = DecoderPool(4, 50_000_000, budget)
    try:
        calls = await asyncio.gather(*(pool.decode(photographs, SPEC, None) for _ in range(3)))
    finally:
        await pool.close()
    assert [rows.shape for rows in calls] == [(4, 24, 24, 3)] * 3
    assert budget.most_held == 2 * need
    assert budget.held == 0


async def test_killed_decoders_and_a_killed_template_are_replaced() -> None:
    async with decoding() as (pool, _):
        for _ in range(3):
            await pool.decode([encoded(40, 40)], SPEC, None)
            for pid in (killed := [*templates(), *decoders()]):
                os.kill(pid, signal.SIGKILL)
            for pid in killed:
                wait_for_end(pid)
        assert (await pool.decode([encoded(40, 40)], SPEC, None)).shape == (1, 24, 24, 3)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("whose", [templates, decoders], ids=["template", "decoders"])
async def test_an_image_whose_decoder_is_stopped_or_killed_is_decoded_by_another(
    whose: Callable[[], list[int]], number: signal.Signals
) -> None:
    image = encoded(2400, 2000)
    async with decoding() as (pool, budget):
        async with budget.taken(budget.most):
            call = asyncio.ensure_future(pool.decode([image], SPEC, 60.0))
            before = await asyncio.wait_for(waiting(budget), 60)
            for pid in whose():
                os.kill(pid, number)
            for pid in before:
                await asyncio.to_thread(wait_for_end, pid)
        np.testing.assert_array_equal((await call)[0], preprocess(image, SPEC))
        assert not {*before} & {*decoders()}


async def waiting(budget: WaitingBudget) -> list[int]:
    """Process ids of the decoders once one of them waits for memory."""
    while not budget._waiting:  # noqa: ASYNC110  # the budget tells nobody but those who wait
        await asyncio.sleep(0)
    return decoders()


async def test_a_template_that_hangs_is_replaced_whoever_still_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It forks nobody: the caller with a deadline leaves, and the next one is served by another. That it is stopped goes unseen."""
    monkeypatch.setattr("resnet_server.processes.child.STOPPED_LOOKS", 1_000_000)
    async with decoding() as (pool, _):
        await pool.decode([encoded(40, 40)], SPEC, None)
        (template,) = templates()
        for pid in decoders():
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(wait_for_end, pid)
        os.kill(template, signal.SIGSTOP)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(DeadlineError):
            patch.setattr("resnet_server.endpoints.decoding.template.HANG_SECONDS", 0.5)
            await pool.decode([encoded(40, 40)], SPEC, 0.01)
        assert (await pool.decode([encoded(40, 40)], SPEC, None)).shape == (1, 24, 24, 3)
        assert template not in templates()
        assert f"process {template} has made none in" in caplog.text


async def test_memory_goes_to_who_came_first_and_comes_back() -> None:
    budget, order = WaitingBudget(10), []

    async def take(name: str, count: int, hold: asyncio.Event) -> None:
        async with budget.taken(count):
            order.append(name)
            await hold.wait()

    first, others = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.ensure_future(take("a", 6, first))]
    tasks += [asyncio.ensure_future(take(name, count, others)) for name, count in (("large", 10), ("small", 1))]
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == ["a"]  # a small one that always fits would keep a large one waiting for ever
    tasks[1].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == ["a", "small"]
    first.set()
    others.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert budget.held == 0
