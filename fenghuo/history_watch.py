"""Whether a cluster's historians come forward: by how far Kafka has noted that they are, in each slot."""

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from fenghuo.settings import Cluster
from ingest.topics import Topics

LOOK = 30.0
"""Seconds of real time between two questions."""

STUCK = 600.0
"""Seconds of real time without a step forward that an administrator is told of: Kafka has what history lacks."""

WITHIN = 5.0
"""Seconds for an answer."""


class Place(NamedTuple):
    """Of a slot: offset that history has come to, and the one after the newest record."""

    has: int
    end: int


class Progress:
    """Which slots stand still; pure.

    Args:
        watch: seconds of real time, now.
    """

    def __init__(self, slots: int, watch: float) -> None:
        self._well = dict.fromkeys(
            range(slots), watch
        )  # when it was last seen to come forward, or to have all
        self._looked = watch
        self._has: dict[int, int] = {}
        self._came: set[int] = set()

    def look(self, places: Mapping[int, Place], watch: float) -> str | None:
        """Why history is not kept, "" if it is, None while that is not known of every slot."""
        if (unseen := watch - self._looked) > 2 * LOOK:  # we could not look: that says nothing of them
            self._well = {slot: well + unseen for slot, well in self._well.items()}
        self._looked = watch
        for slot, place in places.items():
            if place.has >= place.end or place.has > self._has.get(slot, place.has):
                self._well[slot] = watch
                self._came.add(slot)
            self._has[slot] = place.has
        stands = [slot for slot, well in self._well.items() if watch - well > STUCK]
        if stands:
            some = ", ".join(map(str, stands[:10])) + (" …" if len(stands) > 10 else "")
            return f"no historian has come forward in slots {some} for {STUCK / 60:.0f} min"
        return "" if len(self._came) == len(self._well) else None


class HistoryWatch:
    """Asks Kafka; see Progress. One thread."""

    def __init__(self, cluster: Cluster, watch: float) -> None:
        names = Topics(cluster.topics)
        self._partitions = [TopicPartition(names.readings, slot) for slot in range(cluster.slots)]
        self._consumer = Consumer(  # it never joins the group
            {"bootstrap.servers": cluster.kafka, "group.id": names.history, "log_level": 0}
        )
        self._progress = Progress(cluster.slots, watch)
        self._next = watch

    def look(self, watch: float) -> str | None:
        """As Progress.look; None too between two questions. Raises KafkaException."""
        if watch < self._next:
            return None
        self._next = watch + LOOK
        held = {one.partition: one.offset for one in self._consumer.committed(self._partitions, WITHIN)}
        places = {
            one.partition: Place(held[one.partition], self._consumer.get_watermark_offsets(one, WITHIN)[1])
            for one in self._partitions
        }
        return self._progress.look(places, watch)

    def close(self) -> None:
        self._consumer.close()
