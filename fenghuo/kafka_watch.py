"""Whether Kafka answers: said in the log once when it goes away, and once when it is back."""

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fenghuo.prepared import kafka_away
from fenghuo.settings import Cluster
from registry.clock import stopwatch

LOOK = 2.0
"""Seconds of real time between two questions."""

WITHIN = 2.0
"""Seconds for an answer."""

log = structlog.get_logger()


class KafkaWatch:
    """To be asked again and again, by one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = AdminClient({"bootstrap.servers": cluster.kafka, "log_level": 0})
        self._away = False
        self._next = 0.0

    def answers(self, *, wanted: bool) -> bool:
        """Whether it did when it was asked last; it is asked now and then, and at once where much hangs on it."""
        if stopwatch() < self._next and (self._away or not wanted):
            return not self._away
        try:
            self._client.list_topics(timeout=WITHIN)  # of one that is not there, asking would make it
        except KafkaException as error:
            if not self._away:
                log.error("kafka_away", why=kafka_away(self._cluster, error.args[0].str()))
            self._away = True
        else:
            if self._away:
                log.info("kafka_back")
            self._away = False
        self._next = stopwatch() + LOOK
        return not self._away
