"""Prometheus metrics of one node, read from its `Counters` when somebody scrapes.

The names and help texts stand here and nowhere else. Labels come from closed sets of our own; no document, user or
address ever becomes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from collab.node.counters import Counters

CONTENT_TYPE = CONTENT_TYPE_LATEST

_HISTOGRAMS = {
    "edit_to_acknowledgement": "Seconds from an update's arrival to its author being told that it is committed.",
    "broadcast": "Seconds from an update's arrival to its frame being written to the last session of this node.",
}
_GAUGES = {
    "connections": "WebSockets open now.",
    "sessions": "Sessions joined to a document now.",
    "rooms": "Documents in memory now.",
    "queue_bytes": "Bytes waiting for slow readers now.",
    "unsaved_bytes": "Bytes of updates waiting for their commit now.",
    "bus_connected": "1 while this node hears the others and they hear it, and where there are no others; else 0.",
    "nodes": "Other nodes alive now.",
}
_TOTALS = {
    "connections_opened": "WebSockets opened.",
    "frames_out": "Frames written to sessions.",
    "bytes_in": "Bytes of frames received.",
    "bytes_out": "Bytes of frames written.",
    "plain": "Updates shown before the engine had them.",
    "slow_reader_diffs": "Backlogs of slow readers replaced by one diff.",
    "engine_restarts": "Engine processes started again after one was lost.",
    "quarantines": "Documents left alone for a while because they kept stopping the engine.",
    "transactions": "Commits to the update log.",
    "rows": "Updates committed.",
    "store_failures": "Commits that failed and were repeated.",
    "compactions": "Update logs folded into snapshots.",
    "bus_published": "Messages to other nodes that the bus took.",
    "bus_received": "Good messages of other nodes.",
    "bus_dropped": "Messages to other nodes given up because too many waited, or because they waited too long.",
    "bus_bad_envelopes": "Messages on the bus that were changed, signed with another secret, or of another version.",
    "bus_reconnects": "Times the bus was lost and found again.",
    "adopted": "Updates of other nodes written to the log here.",
    "followed": "Updates read from the log because nobody told of them.",
    "audit_dropped": "Joins and exports missing from the audit log, since the database was away for too long.",
    "damage": "Snapshots and rows passed over because their checksum failed.",
}
_KINDS = {
    "messages_in": ("type", "Messages received."),
    "updates": ("verdict", "Updates by what the engine said of them."),
    "closes": ("code", "WebSockets closed by this server, by close code."),
    "denials": ("status", "WebSocket upgrades refused, by HTTP status."),
    "limits": (
        "limit",
        "Times a limit was met: a session read more slowly, a request refused, a document grown large.",
    ),
    "resyncs": ("cause", "Questions to other nodes for what is missing here, by what raised the doubt."),
}


class NodeCollector(Collector):
    """Turns counters into metrics. ``refresh`` is called first and may bring the "now" fields up to date."""

    def __init__(self, counters: Counters, refresh: Callable[[], None] | None = None) -> None:
        self._counters = counters
        self._refresh = refresh

    def collect(self) -> Iterator[Metric]:
        """Every metric, read now."""
        if self._refresh is not None:
            self._refresh()
        for field, text in _HISTOGRAMS.items():
            yield self._histogram(field, text)
        for field, text in _GAUGES.items():
            yield GaugeMetricFamily(f"collab_{field}", text, value=self._value(field))
        for field, text in _TOTALS.items():
            yield CounterMetricFamily(f"collab_{field}", text, value=self._value(field))
        for field, (label, text) in _KINDS.items():
            family = CounterMetricFamily(f"collab_{field}", text, labels=[label])
            for kind, count in sorted(self._value(field).items()):
                family.add_metric([kind], count)
            yield family

    def _histogram(self, field: str, text: str) -> Metric:
        histogram = self._value(f"{field}_s")
        return HistogramMetricFamily(
            f"collab_{field}_seconds", text, buckets=histogram.cumulative(), sum_value=histogram.sum
        )

    def _value(self, field: str) -> Any:
        return getattr(self._counters, field)


class Metrics:
    """The registry of one node, apart from the library's global one, so that two nodes fit into one process."""

    def __init__(self, counters: Counters, refresh: Callable[[], None] | None = None) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(counters, refresh))
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
