"""Ask for several pictures side by side with asyncio, each with a deadline of its own.

    python many_at_once.py ADDRESS FILE...

The calls share one connection, and the server puts them into batches.
"""

import asyncio
import sys
from pathlib import Path

from resnet_client import AsyncClient, ClientError

DEADLINE = 2.0  # seconds


async def ask(client: AsyncClient, path: Path) -> str:
    """A line for one picture, whatever becomes of it."""
    try:
        (prediction,) = await client.classify(path, model="resnet20", timeout=DEADLINE)
    except ClientError as error:
        return f"{path.name}: {error}"
    return f"{path.name}: {prediction.best.name}, in a batch of {prediction.execution.batch_rows}"


async def main(address: str, *names: str) -> None:
    """Ask for all at once, print in the order given."""
    async with AsyncClient(address) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(client, Path(name))) for name in names]
    for task in tasks:
        print(task.result())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
