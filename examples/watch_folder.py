"""Classify pictures as they appear in a folder, until a file named `stop` appears.

    python watch_folder.py FOLDER [ADDRESS]

Each picture is a call of its own, so that none waits for the next to fill a call; at most eight are in flight.
Write a picture under another name and rename it when it is whole: a rename is one step, so no half file is read.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from resnet_client import AsyncClient, ClientError

LOOK_EVERY = 0.1  # seconds
IN_FLIGHT = 8
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


async def arrivals(folder: Path) -> AsyncIterator[Path]:
    """Each picture once, in the order of arrival; those that are there first."""
    seen: set[Path] = set()
    while True:
        present = await asyncio.to_thread(lambda: set(folder.iterdir()))
        stopping = folder / "stop" in present
        found = {path for path in present if path.suffix.lower() in SUFFIXES} - seen
        for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            yield path
        seen |= found
        if stopping:
            return
        await asyncio.sleep(LOOK_EVERY)


async def answer(client: AsyncClient, path: Path, room: asyncio.Semaphore) -> None:
    """A line for one picture, as soon as its answer is there."""
    try:
        (prediction,) = await client.classify(path, model="resnet20")
        print(f"{path.name}: {prediction.best.name}", flush=True)
    except ClientError as error:
        print(f"{path.name}: {error}", flush=True)
    finally:
        room.release()


async def main(folder: str, address: str = "localhost:8001") -> None:
    """Ask for each picture when it comes; with eight in flight, wait until one is answered."""
    room = asyncio.Semaphore(IN_FLIGHT)
    async with AsyncClient(address) as client, asyncio.TaskGroup() as group:
        async for path in arrivals(Path(folder)):
            await room.acquire()
            group.create_task(answer(client, path, room))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
