"""deploy/examples as somebody would run them: under plain uvicorn, in a process of their own, with their own users."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from collab.errors import CloseCode
from collab.protocol.dialects.y_websocket import decode, encode
from collab.protocol.messages import SyncStatus, SyncStep2, Update
from tests.support.postgres import postgres_server, postgres_url
from tests.unit.node.support import Writer

__all__ = ["postgres_server", "postgres_url"]

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
PATIENCE_S = 60.0
SETTINGS = """
SECRET_KEY = "a-key-for-this-test-alone-of-more-than-fifty-characters-"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
"""
URLS = """
from django.contrib import auth
from django.http import HttpResponse
from django.urls import path

def sign_in(request, name):
    auth.login(request, auth.models.User.objects.get(username=name))
    return HttpResponse()

def sign_out(request):
    auth.logout(request)
    return HttpResponse()

async def sign_out_awaiting(request):
    await auth.alogout(request)
    return HttpResponse()

urlpatterns = [
    path("hello", lambda request: HttpResponse(f"hello {request.user.get_username()}")),
    path("in/<name>", sign_in),
    path("out", sign_out),
    path("out/awaiting", sign_out_awaiting),
]
"""
SIGN_IN = """
from django.contrib.auth.models import Group, User
from django.test import Client
cookies = {}
for name in ("ann", "ben", "cal"):
    user = User.objects.create_user(name, password="x")
    user.groups.add(Group.objects.get_or_create(name="acme" if name == "ann" else "umbrella")[0])
    client = Client()
    client.force_login(user)
    cookies[name] = client.cookies["sessionid"].value
print(json.dumps(cookies))
"""


class Site:
    """A running application: its address, and what it said."""

    def __init__(self, port: int, log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.log = log

    def socket(self, document: str, cookie: str | None, **more: Any) -> websockets.connect:
        headers = {**more, **({} if cookie is None else {"Cookie": cookie})}
        return websockets.connect(
            f"ws://{self.address}/collab/yjs/{document}",
            additional_headers=headers,
            proxy=None,
            open_timeout=PATIENCE_S,
        )

    async def writes(self, document: str, cookie: str, text: str) -> None:
        """Somebody signed in types, and sees it saved."""
        async with self.socket(document, cookie) as editor:
            await editor.send(encode(SyncStep2(b"\x00\x00")))
            await editor.send(encode(Update(Writer().type(text))) + encode(SyncStatus(b"\x01")))
            while SyncStatus(b"\x01") not in decode(await editor.recv()):
                pass

    async def joined(self, document: str, cookie: str) -> websockets.ClientConnection:
        """Somebody's open editor; the caller closes it."""
        editor = await self.socket(document, cookie)
        await editor.recv()
        return editor

    async def closes(self, document: str, cookie: str | None, code: CloseCode) -> None:
        async with self.socket(document, cookie) as editor:
            await editor.wait_closed()
            assert editor.close_code == code.code

    async def turns_a_foreign_page_away(self, document: str, cookie: str) -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with self.socket(document, cookie, Origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403

    def http(self, cookie: str | None = None) -> httpx.AsyncClient:
        headers = {} if cookie is None else {"Cookie": cookie}
        return httpx.AsyncClient(
            base_url=f"http://{self.address}", headers=headers, trust_env=False, timeout=PATIENCE_S
        )


@contextmanager
def running(application: str, folder: Path, **environment: str) -> Iterator[Site]:
    """The command of ``application``, and a socket for it that listens already, so nobody has to poll for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        log = folder / f"log-{port}"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *command_of(application), "--fd", str(listening.fileno())],
                cwd=folder,
                env={**clean_environment(), **environment},
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
    try:
        yield Site(port, log)
        process.terminate()
        process.wait(PATIENCE_S)
    except BaseException:
        print(log.read_text(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def command_of(application: str) -> list[str]:
    """How ``application``'s own text says that it is run."""
    (line,) = re.findall(rf"(?m)^    (uvicorn {application} .*)$", "".join(map(Path.read_text, EXAMPLES.glob("*.py"))))
    return str(line).split()


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("COLLAB_", "DJANGO_"))}


async def test_the_fastapi_example_lets_in_who_signed_in(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "fastapi_app.py", tmp_path)
    with running("fastapi_app:app", tmp_path, INSECURE_COOKIES="1") as site:
        async with site.http() as client:
            wrong = await client.post("/login", json={"user": "ann", "password": "x"})
            nobody = await client.post("/login", json={"user": "nobody", "password": "x"})
            assert (wrong.status_code, wrong.text) == (nobody.status_code, nobody.text) == (401, wrong.text)
            assert (await client.get("/collab/v1/documents/acme:1")).status_code == 401
            assert (await client.post("/login", json={"user": "ann", "password": "correct horse"})).status_code == 200
            cookie = f"session={client.cookies['session']}"
            await site.writes("acme:1", cookie, "hello")
            content = await client.get("/collab/v1/documents/acme:1/content", params={"format": "text"})
            assert (content.status_code, content.text) == (200, "hello")
            assert (await client.get("/collab/v1/documents/umbrella:1")).status_code == 403
        await site.closes("umbrella:1", cookie, CloseCode.FORBIDDEN)
        await site.closes("acme:1", None, CloseCode.UNAUTHENTICATED)
        await site.closes("acme:1", "session=made-up", CloseCode.UNAUTHENTICATED)
        await site.turns_a_foreign_page_away("acme:1", cookie)


async def sign_in(client: httpx.AsyncClient) -> str:
    """Ann's cookie of a new session."""
    client.cookies.clear()
    assert (await client.post("/login", json={"user": "ann", "password": "correct horse"})).status_code == 200
    return f"session={client.cookies['session']}"


async def test_d13_the_fastapi_example_closes_the_editors_of_the_browser_that_signs_out(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "fastapi_app.py", tmp_path)
    database = tmp_path / "named by its variable.db"
    environment = {"INSECURE_COOKIES": "1", "COLLAB_DATABASE": f"sqlite:///{database}"}
    with running("fastapi_app:app", tmp_path, **environment) as site:
        async with site.http() as client:
            phone, laptop = await sign_in(client), await sign_in(client)
            editors = [await site.joined("acme:1", cookie) for cookie in (phone, laptop)]
            assert (await client.post("/logout")).status_code == 204
            await editors[1].wait_closed()
            assert editors[1].close_code == CloseCode.UNAUTHENTICATED.code
            await site.closes("acme:1", laptop, CloseCode.UNAUTHENTICATED)
            await editors[0].send(encode(SyncStep2(b"\x00\x00")) + encode(SyncStatus(b"\x01")))
            while SyncStatus(b"\x01") not in decode(await editors[0].recv()):
                pass
            await editors[0].close()
            await site.writes("acme:1", await sign_in(client), "back again")
            assert (await client.post("/logout", headers={"Cookie": "session=made-up"})).status_code == 204
    assert database.exists()
    assert laptop.partition("=")[2].encode() not in database.read_bytes()


class Django:
    """A Django project whose `asgi.py` is the example."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = folder / "mysite"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "settings.py").write_text(SETTINGS)
        (package / "urls.py").write_text(URLS)
        shutil.copy(EXAMPLES / "django_app.py", package / "asgi.py")

    def manage(self, *arguments: str) -> str:
        """A command of Django's."""
        return self._run("-m", "django", *arguments)

    def run(self, code: str) -> str:
        """``code`` with the project's models."""
        return self._run("-c", f"import json, django\ndjango.setup()\n{code}")

    def _run(self, *arguments: str) -> str:
        environment = {**clean_environment(), "DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": "."}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


async def test_the_django_example_lets_in_djangos_own_users_as_long_as_django_would(tmp_path: Path) -> None:
    pytest.importorskip("django")
    django = Django(tmp_path)
    django.manage("migrate", "--verbosity", "0")
    cookies = {name: f"sessionid={value}" for name, value in json.loads(django.run(SIGN_IN)).items()}
    with running("mysite.asgi:application", tmp_path) as site:
        async with site.http(cookies["ann"]) as client:
            assert (await client.get("/hello")).text == "hello ann"
            await site.writes("acme:1", cookies["ann"], "hello")
            content = await client.get("/collab/v1/documents/acme:1/content", params={"format": "text"})
            assert (content.status_code, content.text) == (200, "hello")
            assert (await client.get("/collab/v1/documents/umbrella:1")).status_code == 403
            assert (await client.get("/collab/v1/documents")).json()["documents"][0]["name"] == "acme:1"
        await site.writes("user:1:diary", cookies["ann"], "dear")
        await site.closes("user:1:diary", cookies["ben"], CloseCode.FORBIDDEN)
        await site.closes("acme:1", cookies["ben"], CloseCode.FORBIDDEN)
        await site.closes("acme:1", None, CloseCode.UNAUTHENTICATED)
        await site.closes("acme:1", "sessionid=made-up", CloseCode.UNAUTHENTICATED)
        await site.turns_a_foreign_page_away("acme:1", cookies["ann"])
        django.run(
            "from django.contrib.auth.models import User\n"
            "User.objects.filter(username='ben').update(is_active=False)\n"
            "cal = User.objects.get(username='cal'); cal.set_password('y'); cal.save()"
        )
        for gone in ("ben", "cal"):
            await site.closes("umbrella:1", cookies[gone], CloseCode.UNAUTHENTICATED)
    assert "Traceback" not in site.log.read_text(errors="replace")


@pytest.mark.postgres
async def test_d13_the_django_example_closes_the_editors_of_who_signs_out_on_every_node_without_redis(
    tmp_path: Path, postgres_url: str
) -> None:
    pytest.importorskip("django")
    django = Django(tmp_path)
    django.manage("migrate", "--verbosity", "0")
    before = json.loads(django.run(SIGN_IN))["ann"]  # as if before the example was installed: by a process without it
    environment = {"COLLAB_DATABASE": postgres_url, "COLLAB_MIGRATE": "true"}
    with running("mysite.asgi:application", tmp_path, **environment) as here:
        async with here.http() as client:
            assert (await client.get("/collab/livez")).status_code == 200
            with running("mysite.asgi:application", tmp_path, **environment) as there:

                async def sign_in() -> str:
                    client.cookies.clear()
                    assert (await client.get("/in/ann")).status_code == 200
                    return f"sessionid={client.cookies['sessionid']}"

                phone = await sign_in()
                on_phone = await there.joined("acme:1", phone)
                for way in ("/out", "/out/awaiting"):
                    laptop = await sign_in()
                    on_laptop = await there.joined("acme:1", laptop)
                    assert (await client.get("/in/ann")).status_code == 200  # once more, in the same session
                    assert (await client.get(way)).status_code == 200
                    await on_laptop.wait_closed()
                    assert on_laptop.close_code == CloseCode.UNAUTHENTICATED.code
                    await there.closes("acme:1", laptop, CloseCode.UNAUTHENTICATED)
                await there.writes("acme:1", phone, "phone")
                assert on_phone.state is websockets.State.OPEN

                async with here.http(f"sessionid={before}") as old:
                    assert (await old.get("/out")).status_code == 200
                await on_phone.wait_closed()
                assert on_phone.close_code == CloseCode.UNAUTHENTICATED.code
                await there.writes("acme:1", await sign_in(), "after")
    for site in (here, there):
        assert "Traceback" not in site.log.read_text(errors="replace")
