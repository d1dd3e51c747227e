"""The backups of deploy/README.md, made while people write, restored, and checked by loading every document."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.faults.campaign import committed, until
from tests.support.checker import History, Submitted, check, invented, lost, text_of, unequal
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, find_binaries, postgres_server
from tests.support.server import RunningServer
from tests.support.writers import Gate, Writer

__all__ = ["postgres_server"]
DOCUMENTS = ("acme:minutes", "acme:notes", "acme:plan")
ENOUGH = 60
"""Acknowledged updates, before a backup is made."""

pytestmark = pytest.mark.postgres


class People:
    """Two writers in each document, and everything they were told."""

    def __init__(self, port: int) -> None:
        self.gate = Gate()
        self.gate.open()
        self.histories = {document: History() for document in DOCUMENTS}
        self.writers = [
            Writer(
                f"ws://127.0.0.1:{port}/yjs",
                document,
                number,
                history=self.histories[document],
                confirm="status",
                gate=self.gate,
                rng=Random(number),
            )
            for document in DOCUMENTS
            for number in (1, 2)
        ]
        self._tasks = [asyncio.create_task(writer.run(), name=str(writer.number)) for writer in self.writers]

    def acknowledged(self) -> dict[str, list[Submitted]]:
        return {document: list(history.acknowledged) for document, history in self.histories.items()}

    async def write_more(self) -> None:
        """Return when every document has got further."""
        goal = {document: len(entries) + ENOUGH for document, entries in self.acknowledged().items()}
        await until(
            lambda: all(len(self.histories[document].acknowledged) >= goal[document] for document in DOCUMENTS),
            "nothing is acknowledged any more",
        )

    async def away(self) -> None:
        """Nobody connects any more; what was on its way to them has arrived."""
        self.gate.connecting.clear()
        await until(lambda: all(writer.offline for writer in self.writers), "somebody is still connected")

    async def back(self) -> None:
        """Everybody connects and waits until all they wrote is saved."""
        self.gate.writing.clear()
        self.gate.connecting.set()
        await until(lambda: all(writer.connected.is_set() for writer in self.writers), "somebody cannot get in")
        async with asyncio.timeout(60):
            await asyncio.gather(*(writer.settled() for writer in self.writers))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self.writers:
            writer.close()


@pytest.fixture
async def people() -> AsyncIterator[People]:
    here = People(free_port())
    yield here
    await here.leave()


def port_of(people: People) -> int:
    return int(httpx.URL(people.writers[0].url).port or 0)


def run(program: str, *arguments: str, **environment: str) -> None:
    """One of PostgreSQL's programs, or collab of this checkout."""
    folder = find_binaries()
    assert folder is not None
    command = [sys.executable, "-c", "from collab.cli import main; main()"]
    command = command if program == "collab" else [str(folder / program)]
    environment = {**os.environ, **environment}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def what_nobody_types(server: RunningServer) -> None:
    """A labelled version, and a document that is deleted."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        content = {"format": "markdown", "value": "# Contract"}
        assert (await http.post("/v1/documents", json={"name": "acme:contract", "content": content})).status_code == 201
        label = {"label": "as signed"}
        assert (await http.post("/v1/documents/acme:contract/snapshots", json=label)).status_code == 201
        assert (await http.post("/v1/documents", json={"name": "acme:gone"})).status_code == 201
        assert (await http.delete("/v1/documents/acme:gone")).status_code == 204


async def check_what_nobody_types(server: RunningServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        assert (await http.get("/v1/documents/acme:contract/content?format=markdown")).text.strip() == "# Contract"
        kept = (await http.get("/v1/documents/acme:contract/snapshots")).json()
        assert "as signed" in str(kept)
        assert (await http.get("/v1/documents/acme:gone")).status_code == 410


async def check_restored(server: RunningServer, people: People, before: dict[str, list[Submitted]]) -> None:
    """Nothing acknowledged before the backup began is missing, nothing is there that nobody wrote, and it is old."""
    for document, entries in before.items():
        history, replica = people.histories[document], await committed(server, document)
        assert len(entries) >= ENOUGH
        assert lost(replica, entries) == []
        assert invented(text_of(replica), history.submitted) == []
        assert lost(replica, history.acknowledged) != [], "the backup was made too late to prove anything"


async def check_all_back(server: RunningServer, people: People) -> None:
    """Everybody who still has a document open has brought back what the backup could not know."""
    await people.back()
    for document, history in people.histories.items():
        replica = await committed(server, document)
        assert check(history, replica) == []
        theirs = {str(writer.number): writer.replica for writer in people.writers if writer.url.endswith(document)}
        assert unequal({"database": replica, **theirs}) == []


async def test_f43_a_dump_made_while_people_write_is_whole_and_open_editors_bring_back_the_rest(
    postgres_server: PostgresServer, people: People, tmp_path: Path
) -> None:
    port = port_of(people)
    lost_one, new_one = [await postgres_server.create_database() for _ in range(2)]
    dump = str(tmp_path / "collab.dump")
    with RunningServer.start("--migrate", database=postgres_server.url(lost_one), port=port) as server:
        await what_nobody_types(server)
        await people.write_more()
        before = people.acknowledged()
        url = postgres_server.url(lost_one)
        await asyncio.to_thread(run, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")
        await people.write_more()
        server.kill()
    await people.away()
    await postgres_server.run(f"DROP DATABASE {lost_one} WITH (FORCE)")

    url = postgres_server.url(new_one)
    await asyncio.to_thread(run, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", dump)
    await asyncio.to_thread(run, "collab", "doctor", COLLAB_DATABASE=url)
    with RunningServer.start(database=url, port=port) as server:
        await check_what_nobody_types(server)
        await check_restored(server, people, before)
        await check_all_back(server, people)
    await postgres_server.run(f"DROP DATABASE {new_one} WITH (FORCE)")


async def test_f43_a_base_backup_made_while_people_write_starts_as_a_server_of_its_own(
    postgres_server: PostgresServer, people: People
) -> None:
    port = port_of(people)
    name = await postgres_server.create_database()
    copy = PostgresServer()
    shutil.rmtree(copy._data)
    backup: Sequence[str] = (str(copy._binaries / "pg_basebackup"), "--checkpoint=fast", "--wal-method=stream")
    with RunningServer.start("--migrate", database=postgres_server.url(name), port=port) as server:
        await what_nobody_types(server)
        await people.write_more()
        before = people.acknowledged()
        target = (f"--pgdata={copy._data}", f"--dbname={postgres_server.url()}")
        await asyncio.to_thread(copy._run, [*backup, *target])
        await people.write_more()
        server.kill()
    await people.away()
    await postgres_server.run(f"DROP DATABASE {name} WITH (FORCE)")
    try:
        await asyncio.to_thread(copy._run, [str(copy._binaries / "pg_verifybackup"), str(copy._data)])
        await asyncio.to_thread(copy.start)
        await asyncio.to_thread(run, "collab", "doctor", COLLAB_DATABASE=copy.url(name))
        with RunningServer.start(database=copy.url(name), port=port) as server:
            await check_what_nobody_types(server)
            await check_restored(server, people, before)
            await check_all_back(server, people)
    finally:
        copy.close()
