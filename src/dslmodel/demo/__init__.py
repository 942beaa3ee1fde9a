"""The demonstration: a small real system that is broken on purpose, and a daemon of ours that has to notice.

`system` starts it (services, proxy, load, agents; each a process of its own), `run` breaks it and keeps the report.
"""
