"""What Prometheus reads of a role: where it is asked to look, and that it finds it there."""

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector


def expose(place: str, collector: Collector) -> None:
    """Serve it at HOST:PORT; "" is nowhere. Raises OSError where the port is taken."""
    if not place:
        return
    host, _, port = place.rpartition(":")
    exposed = CollectorRegistry()
    exposed.register(collector)
    start_http_server(int(port), host, exposed)
