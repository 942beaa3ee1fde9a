"""Network edges: OTLP receivers, status, metrics, commands."""
