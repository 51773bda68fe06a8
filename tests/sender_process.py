"""For tests: a sender of its own process: python -m tests.sender_process DATABASE_URL PHONE_URL."""

import asyncio
import signal
import sys

from alerting.channels import ChannelSettings, HttpChannel
from alerting.sender import Retry, Sender
from registry.clock import SECOND, SystemClock
from registry.database import open_database


async def main(database: str, url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    channel = HttpChannel(ChannelSettings(name="phone", base=url, timeout=1.0, concurrency=8), b"secret")
    retry = Retry(first=SECOND // 50, longest=SECOND // 10)
    sender = Sender(open_database(database), SystemClock(), {"phone": channel}, retry)
    print("ready", flush=True)
    await sender.run(stop)
    await channel.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
