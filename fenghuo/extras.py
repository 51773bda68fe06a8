"""Extras: what each brings, whether it is there, and how to get it."""

from importlib.util import find_spec

BRINGS = {
    "cluster": ("confluent_kafka", "psycopg"),
    "grafana": ("grafana_client", "grafana_foundation_sdk"),
    "influx": ("influxdb_client",),
}


def lacking(*extras: str) -> str:
    """What these bring that is not there, and how to get it; "" if all is."""
    missing = [name for extra in extras for name in BRINGS[extra] if find_spec(name) is None]
    if not missing:
        return ""
    return f"{' and '.join(missing)} missing; to get it: pip install 'fenghuo[{','.join(extras)}]'"
