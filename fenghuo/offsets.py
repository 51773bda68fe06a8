"""Telling Kafka how far a consumer has come; what it does not note is told to it again."""

from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

log = structlog.get_logger()


class Offsets:
    """Those of one consumer, whose ``on_commit`` is ``noted``.

    Args:
        forget: that a partition's offset was told.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget

    def tell(self, consumer: Consumer, offsets: list[TopicPartition], *, wait: bool = False) -> None:
        if not offsets:
            return
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self.noted(error.args[0], offsets)

    def noted(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        """Whether Kafka did. If it did not note one of them, we are told that of all."""
        if error is None:
            return
        log.warning("offsets_not_committed", why=error.str())
        for one in partitions:
            self._forget(one.partition)
