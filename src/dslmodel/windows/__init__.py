"""Windows: accepted payloads in, one-second columns out.

Takes traces payloads and the time. Gives `WindowBatch` columns, and from them the metrics that are reported. Owns the tables of names, the
cache that joins spans, and the ring of recent spans. Never reads a clock, a socket or a file, and judges nothing.
"""
