"""Spans and log records on their way to an OpenTelemetry collector (OTLP over HTTP)."""
