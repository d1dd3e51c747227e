"""A self-hosted collaborative-editing backend for Yjs editors: what it calls saved is committed.

The house in one sentence: bytes become messages (`protocol`), messages become decisions (`room`), decisions land in
queues (`node`), and ports (`engine`, `store`, `bus`) carry them out; `server` and `cli` only let people in.

    errors.py     every exception, and the one table of close codes
    settings.py   everything that can be set
    protocol/     bytes <-> values; standard library only
    room/         what is decided about a document being edited; never awaits
    engine/       CRDT code, in this process or in a child of it
    store/        the update log, the documents and their snapshots; SQLite and PostgreSQL
    bus/          how nodes hear of each other
    node/         what runs: live rooms, their connections, the recorder
    server/       FastAPI, WebSockets, REST, the page
    cli/          collab serve | migrate | export | import | doctor | token

Rules of behaviour are in SPEC.md, reasons in DESIGN.md. The public names are `collab.server.Collab` (mount it in your
own FastAPI app), `collab.settings.Settings`, and what `collab.errors` holds.
"""

__version__ = "0.1.0"
