"""What keeps state and records together, around a Faust that does as it is told; what fails half-way ends it."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
from faust.types import TP

from streams.exact import FROZEN, Exact, Output
from streams.states import Found


class Ended(BaseException):
    """The process would be gone."""


class App:
    """As much of a Faust app as is used: its consumer and its producer too."""

    def __init__(self, **fails: BaseException) -> None:
        self.consumer = self
        self.committed: list[dict[TP, int]] = []
        self.produced: list[str] = []
        self.fails = fails  # by topic
        self.owned = {TP("t", 0), TP("t", 1)}

    def topic(self, *_: object, **__: object) -> None: ...

    def agent(self, *_: object, **__: object):
        return lambda function: function

    timer = agent

    def assignment(self) -> set[TP]:
        return self.owned

    async def earliest_offsets(self, place: TP) -> dict[TP, int]:
        return {place: 0}

    async def _commit_offsets(self, offsets: dict[TP, int]) -> None:
        self.committed.append(offsets)

    async def maybe_start_producer(self) -> "App":
        return self

    async def send(self, topic: str, *_: object):
        sent = asyncio.get_running_loop().create_future()
        if topic in self.fails:
            sent.set_exception(self.fails[topic])
        else:
            self.produced.append(topic)
            sent.set_result(None)
        return sent


class Shard:
    def __init__(self, offset: int) -> None:
        self.offset = offset

    async def prepare(self, message):
        def take() -> Iterable[Output]:
            self.offset = message.offset
            return [Output("findings", 0, b"an alert")]

        return take

    def snapshot(self) -> bytes:
        return b"state"

    def last(self) -> Iterable[Output]:
        return ()


class States:
    topic = "changelog"

    def __init__(self, *answers: dict[int, Found]) -> None:
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, _partitions: Iterable[int]) -> dict[int, Found]:
        found = self.answers.pop(0)
        await self.gate.wait()
        return found


class Stream:
    def __init__(self, *messages: tuple[int, int]) -> None:
        self.messages = messages

    def noack(self) -> "Stream":
        return self

    async def events(self):
        for partition, offset in self.messages:
            yield SimpleNamespace(message=SimpleNamespace(partition=partition, offset=offset))


def made(app: App, states: States) -> tuple[Exact[Shard], list[tuple[int, bytes | None]]]:
    opened: list[tuple[int, bytes | None]] = []

    async def open_shard(partition: int, blob: bytes | None) -> Shard:
        opened.append((partition, blob))
        return Shard(9)

    def end(status: int) -> None:
        raise Ended(status)

    return Exact(app, "t", 2, states, open_shard, 1.0, 4.0, end), opened


def test_a_checkpoint_makes_durable_what_was_told_then_the_state_then_the_offset() -> None:
    async def story() -> None:
        app = App()
        exact, _ = made(app, States({0: Found(9, b"s")}))
        await exact._run(Stream((0, 10)))
        await exact.checkpoint()
        assert app.produced == ["findings", "changelog"]
        assert app.committed == [{TP("t", 0): 11}]
        await exact.checkpoint()
        assert len(app.committed) == 1, "nothing has happened since"

    asyncio.run(story())


def test_what_could_not_be_told_is_never_committed_over() -> None:
    async def story() -> None:
        app = App(findings=TimeoutError("Kafka is away"))
        exact, _ = made(app, States({0: Found(9, b"s")}))
        await exact._run(Stream((0, 10)))
        with pytest.raises(Ended, match=str(FROZEN)):
            await exact.checkpoint()
        assert app.produced == []
        assert app.committed == []

    asyncio.run(story())


def test_states_that_were_read_for_what_others_own_by_now_are_not_used() -> None:
    async def story() -> None:
        app = App()
        states = States({0: Found(5, b"old")}, {0: Found(5, b"old"), 1: Found(7, b"one")})
        exact, opened = made(app, states)
        states.gate.clear()
        first = asyncio.create_task(exact._run(Stream((0, 10))))
        await asyncio.sleep(0)
        await exact.revoked()
        states.gate.set()
        await first
        assert opened == []
        await exact._run(Stream((1, 10)))
        assert opened == [(1, b"one")]

    asyncio.run(story())
