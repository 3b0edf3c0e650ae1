"""Those who watch over HTTP: ``python -m millstream.bench.http.watch PORT COUNT``, each an account of its own.

It says ``watching`` when all have their first answer, takes what comes, and at SIGTERM says how many events came.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from millstream.bench.bank import account_name

__all__ = ["main"]


async def _watch(port: int, count: int) -> None:
    ended, begun, came = asyncio.Event(), asyncio.Semaphore(0), [0]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/watch/BalanceOf?account={account_name(number)}"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"data: ")
        begun.release()
        while more := await reader.read(1 << 16):
            came[0] += more.count(b"data: ")

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    for _ in tasks:
        await begun.acquire()
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    await ended.wait()
    sys.stdout.write(f"{came[0]} came\n")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main(arguments: list[str]) -> None:
    """Watch as many as the second argument says, at the port that the first one says."""
    port, count = map(int, arguments)
    asyncio.run(_watch(port, count))


if __name__ == "__main__":
    main(sys.argv[1:])
