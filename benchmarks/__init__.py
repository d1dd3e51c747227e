"""What collab costs beside its peers, measured: `python -m benchmarks`.

Starts each server as its own documentation says, puts the same load on each in turn, and reports CPU, latency and
memory as figures and as ratios of one run. Not part of the package that is installed.
"""
