"""Seeds that once failed, with what was wrong; they run always, before all others.

A seed means a history only as long as `plan`, `scenarios` and `faults` draw as they do: whoever changes these looks for
new seeds with the code of that time, or lets the sentence go.
"""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {
    1017: "a reload after the engine's death brought rows of other nodes that no session was ever shown",
    1172: "the same for a slow reader, whose catch-up began after those rows",
    1125: "the same for deletions",
    1023: "a room was ended, and everybody put out, because the database was away while the document was loaded again",
    1066: "COMMITTED named rows whose UPDATE was never sent, and the hearer counted them as known",
    1460: "the same, found later and by another way: an update over REST, to a room nobody else knew of yet",
    1138: "the same between two editors",
    1010: "an update typed before the first SyncStep2 was confirmed while it waited for what that brought",
    1122: "an update that waited for another tab's was called saved by a status before that one was in the log",
    1094: "the same, on top of an update of a node that died before its commit",
    1256: "a slow reader that confirms by echo never saw the echo that was left out while it was behind",
    1492: "the same with a wire cut one way",
    1076: "a client whose old connection ended after its new one had begun was invisible for ever",
    1201: "two rooms that missed each other's only ASK never found each other",
    2021241: "an answer given before a hole was taken to fill it, and rows nobody here had heard counted as known",
    2010916: "an update that came after a room had ended kept it, and its document was never opened again",
    1264: "a node whose ALIVEs were all lost was never declared dead, and its presence stayed",
    4013860: "a room closed while the bus was away, its node lived, and who had left it stayed shown elsewhere",
    6121042: "a slow reader that caught up was told who is present, and not who had left meanwhile",
    6235870: "the same, when another node's answer had taken somebody away",
    40006306: "what waited here came with another node's answer, and its author took it for its confirmation",
    70021344: "somebody else's SyncStep2 repeated what still waited, and its author took it for its confirmation",
    80080882: "an answer claimed what was shown and said while the engine looked, and filled a hole with nothing",
    80046316: "the same with a deletion",
    334064: "an echo came while the diff of a slow reader was made, and was in neither",
    282707: "what was recorded last waited for less than what was recorded before, and nobody adopted the difference",
    288150: "a deletion that only repeated what waited was called saved",
}
"""Seed -> what it found."""
