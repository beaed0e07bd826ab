"""The leaf: settings, clock, logs, metrics, connections. Imports nothing of ours."""
