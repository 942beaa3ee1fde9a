"""Reproducible benchmarks: `python -m bench` (or `make bench`). What counts are ratios within one run; rates are this machine's."""
