"""Bytes become values, values become bytes; every reader is bounded and raises only `MalformedMessage`.

`names` (document names), `varint` (lib0 encoding), `json_text` (nesting of JSON), `messages` (what a frame can mean),
`dialects` (one module per wire dialect) and `yjs` (Yjs v1 updates and state vectors). Standard library only; nothing
here awaits, asks the time or knows a document.
"""
