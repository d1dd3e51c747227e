"""The engine: all CRDT code, behind one port.

`port` says what an engine does. `inline.InlineEngine` does it in this process; `isolated.IsolatedEngine` does it in
child processes that may die. Both run the same `replicas.Replicas`. Nothing outside this package imports pycrdt.
"""
