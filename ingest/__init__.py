"""MQTT in: collector, payload codecs, checks, dead letters, the journal; out come readings."""
