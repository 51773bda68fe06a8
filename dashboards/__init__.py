"""Grafana dashboards as code, and how they come into a Grafana."""
