"""The command and the wiring: settings, the runtimes, the demo; nothing imports it."""
