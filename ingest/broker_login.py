"""Whether an MQTT broker lets a user in: asked before anything hangs on it."""

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from registry.clock import stopwatch

WITHIN = 3.0
"""Seconds for an answer."""


class BrokerAway(Exception):
    """It does not answer."""


class BrokerRefuses(Exception):
    """It answers, and does not let this user in; says why in its words."""


def log_in(host: str, port: int, user: str, password: str, within: float = WITHIN) -> None:
    """Connect as this user, and leave at once: another connection of this user would be ended by it.

    Raises: BrokerAway, BrokerRefuses.
    """
    answers: list[ReasonCode] = []
    client = Client(CallbackAPIVersion.VERSION2, client_id=user, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(user, password or None)
    client.connect_timeout = within
    client.on_connect = lambda *heard: answers.append(heard[3])
    end = stopwatch() + within
    try:
        client.connect(host, port, clean_start=True)
        while not answers and stopwatch() < end:
            if (error := client.loop(timeout=0.1)) != MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
                raise BrokerAway(f"it ends the connection: {error.name}")
    except (OSError, ValueError) as error:  # refused, no route; no name can be like this
        raise BrokerAway(str(error) or type(error).__name__) from error
    if not answers:
        raise BrokerAway(f"no answer within {within:.0f} s")
    if answers[0].is_failure:
        raise BrokerRefuses(str(answers[0]))
    client.disconnect()
