"""Where documents are kept for good: the port in `port`, and its adapters in memory and in SQL."""

from collab.store.database import Counters, Timeouts
from collab.store.memory import MemoryStore
from collab.store.sql import SqlStore, open_store

__all__ = ["Counters", "MemoryStore", "SqlStore", "Timeouts", "open_store"]
