"""A message as it came from the broker, before anyone looked into it."""

from typing import NamedTuple


class Message(NamedTuple):
    """One MQTT PUBLISH. ``mid`` and ``connection`` say what to acknowledge, and on which connection."""

    topic: str
    payload: bytes
    mid: int = 0
    qos: int = 1
    dup: bool = False  # the broker says that it may have sent it before
    retain: bool = False  # it was kept by the broker and sent because we subscribed
    connection: int = 0
