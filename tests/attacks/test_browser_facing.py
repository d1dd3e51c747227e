"""What browsers and their attackers meet at a production server: hosts, origins, methods, headers, closed doors.

The server is a real one, started in production mode as behind a proxy that ends TLS. What a real browser does with
it stands in `tests/browser/test_hostile.py`.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from secrets import token_hex

import httpx
import jwt
import pytest

from tests.support.plain import PLAIN
from tests.support.ports import free_port
from tests.support.server import RunningServer

SECRET = token_hex(32)
APP = "https://app.example.com"
PUBLIC = "docs.example.com"
EVIL = ["https://evil.example", "null", "https://app.example.com.evil.example", "http://app.example.com", f"{APP}:8443"]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def machine_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(machine_port: int) -> Iterator[RunningServer]:
    settings = {
        "COLLAB_ENVIRONMENT": "production",
        "COLLAB_AUTH": "jwt",
        "COLLAB_JWT_SECRET": SECRET,
        "COLLAB_PUBLIC_URL": f"https://{PUBLIC}",
        "COLLAB_ALLOWED_ORIGINS": APP,
        "COLLAB_METRICS_PORT": str(machine_port),
    }
    with RunningServer.start(env=settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 3600, "access": "write"}, SECRET)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=headers, **PLAIN, timeout=30) as made:
        made.post("/v1/documents", json={"name": "d", "content": {"format": "text", "value": "<script>x</script>"}})
        yield made


def raw(server: RunningServer, request: str) -> tuple[int, str]:
    """The status and the head of the answer to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
        stream.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer and (more := stream.recv(65536)):
            answer += more
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    return int(head.split()[1]), head


def upgrade(host: str, origin: str | None = None) -> str:
    key = base64.b64encode(b"0123456789abcdef").decode()
    shown = f"Origin: {origin}\n" if origin else ""
    return (
        f"GET /yjs/d HTTP/1.1\nHost: {host}\n{shown}Connection: Upgrade\nUpgrade: websocket\n"
        f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {key}\n\n"
    )


class TestHeaders:
    PATHS = ("/", "/d/notes", "/v1/documents", "/v1/documents/d/content?format=html", "/v1/nowhere", "/nowhere")

    @pytest.mark.parametrize("path", PATHS)
    def test_h08_every_answer_says_what_browsers_must_not_do(self, client: httpx.Client, path: str) -> None:
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-request-id"]
        assert "server" not in headers
        assert "x-powered-by" not in headers

    def test_h01_h09_the_page_runs_its_own_files_only(self, client: httpx.Client) -> None:
        page = client.get("/d/notes")
        rules = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert rules["connect-src"] == f"'self' wss://{PUBLIC}"
        assert rules["require-trusted-types-for"] == "'script'"
        assert not any("unsafe" in rule or "*" in rule or "http" in rule for rule in rules.values())
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in page.headers["permissions-policy"]
        loaded = [part.split('"')[1] for part in page.text.replace("href=", "src=").split("src=")[1:]]
        assert len(loaded) >= 2
        assert all(address.startswith("/") and not address.startswith("//") for address in loaded)

    def test_answers_with_documents_are_kept_by_no_cache(self, client: httpx.Client) -> None:
        assert client.get("/v1/documents").headers["cache-control"] == "no-store"
        assert client.get("/v1/documents/d/content").headers["cache-control"] == "private, no-cache"

    @pytest.mark.parametrize("form", ["html", "markdown", "text", "update"])
    @pytest.mark.parametrize("place", ["/v1/documents/d", "/v1/documents/d/snapshots/1"])
    def test_e12_an_export_is_a_file_that_no_browser_opens(self, client: httpx.Client, place: str, form: str) -> None:
        client.post("/v1/documents/d/snapshots")
        answer = client.get(f"{place}/content", params={"format": form})
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        assert answer.headers["x-content-type-options"] == "nosniff"
        if form == "html":
            assert "<script" not in answer.text

    @pytest.mark.parametrize("sent", ["abc-123.X_y", "a" * 64])
    def test_a_plain_request_id_is_kept(self, client: httpx.Client, sent: str) -> None:
        assert client.get("/v1/documents", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent

    @pytest.mark.parametrize("sent", ["", "a" * 65, "a b", "<script>", "a\tb", "ä".encode(), '"', "a;b"])
    def test_g04_any_other_request_id_is_replaced(self, client: httpx.Client, sent: str | bytes) -> None:
        given = client.get("/v1/documents", headers={"X-Request-ID": sent}).headers["x-request-id"]
        assert len(given) == 16
        assert given != sent


class TestHosts:
    @pytest.mark.parametrize("host", [PUBLIC, PUBLIC.upper(), f"{PUBLIC}:443", "127.0.0.1", "localhost:1", "[::1]"])
    def test_a04_the_servers_own_names_are_answered(self, client: httpx.Client, host: str) -> None:
        assert client.get("/v1/documents", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", f"{PUBLIC}.evil.example", f"{PUBLIC}.", "localhost.evil.example", "169.254.169.254"]
    )
    @pytest.mark.parametrize("path", ["/", "/v1/documents", "/openapi.json", "/nowhere"])
    def test_a04_a_foreign_host_is_answered_nothing_token_or_not(
        self, client: httpx.Client, host: str, path: str
    ) -> None:
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "host_refused")
        assert host not in answer.text

    @pytest.mark.parametrize(
        "host",
        ["", "a b", "evil.example/", "user@docs.example.com", f"{PUBLIC}:x", f"{PUBLIC}:123456", "[::1", "a,b", "\xff"],
    )
    def test_a04_a_malformed_host_is_refused(self, server: RunningServer, host: str) -> None:
        assert raw(server, f"GET /v1/documents HTTP/1.1\nHost: {host}\n\n")[0] == 400

    def test_a04_two_hosts_or_none_are_refused(self, server: RunningServer) -> None:
        assert raw(server, f"GET / HTTP/1.1\nHost: {PUBLIC}\nHost: evil.example\n\n")[0] == 400
        assert raw(server, "GET / HTTP/1.1\n\n")[0] == 400
        assert raw(server, "GET / HTTP/1.0\n\n")[0] == 400

    @pytest.mark.parametrize("host", ["10.1.2.3:8000", "evil.example", ""])
    def test_a_probe_may_ask_under_any_name(self, server: RunningServer, host: str) -> None:
        for path in ("/livez", "/readyz"):
            assert raw(server, f"GET {path} HTTP/1.1\nHost: {host}\n\n")[0] == 200
            assert raw(server, f"GET {path} HTTP/1.0\n\n")[0] == 200

    def test_a04_a_page_that_points_its_own_name_here_opens_no_socket(self, server: RunningServer) -> None:
        assert raw(server, upgrade("evil.example", "http://evil.example"))[0] == 421
        assert raw(server, upgrade("evil.example"))[0] == 421
        assert raw(server, upgrade("a b"))[0] == 400
        status, head = raw(server, upgrade(PUBLIC, "https://evil.example"))
        assert status == 403
        assert "nosniff" in head
        assert "server:" not in head.lower()
        assert raw(server, upgrade(PUBLIC, f"https://{PUBLIC}"))[0] == 101


class TestOrigins:
    @pytest.mark.parametrize("origin", EVIL)
    def test_e16_another_origin_is_allowed_nothing(self, client: httpx.Client, origin: str) -> None:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (
            client.options("/v1/documents", headers=asked),
            client.get("/v1/documents", headers={"Origin": origin}),
            client.post("/v1/documents", json={"name": "forged"}, headers={"Origin": origin}),
        ):
            assert "access-control-allow-origin" not in answer.headers
            assert "access-control-allow-credentials" not in answer.headers
            assert "Origin" in answer.headers["vary"]
        assert answer.status_code == 403
        assert client.get("/v1/documents/forged").status_code == 404

    def test_e16_an_allowed_origin_is_named_exactly_and_gets_no_credentials(self, client: httpx.Client) -> None:
        asked = {"Origin": APP, "Access-Control-Request-Method": "PATCH"}
        preflight = client.options("/v1/documents", headers={**asked, "Cookie": "a=b"})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-max-age"] == "600"
        answer = client.get("/v1/documents", headers={"Origin": APP, "Cookie": "a=b"})
        for headers in (preflight.headers, answer.headers):
            assert headers["access-control-allow-origin"] == APP
            assert "access-control-allow-credentials" not in headers
            assert "Origin" in headers["vary"]
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]

    def test_e16_an_answer_without_an_origin_varies_too(self, client: httpx.Client) -> None:
        assert "Origin" in client.get("/v1/documents").headers["vary"]
        assert {"Authorization", "Origin"} <= set(client.get("/v1/documents/d/content").headers["vary"].split(", "))

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
    def test_e17_a_browsers_own_word_that_a_request_is_foreign_counts(self, client: httpx.Client, site: str) -> None:
        for origin in ({}, {"Origin": "https://127.0.0.1", "Host": "127.0.0.1"}):
            headers = {"Sec-Fetch-Site": site, **origin}
            answer = client.post("/v1/documents", json={"name": "forged"}, headers=headers)
            assert answer.status_code == 403
        allowed = {"Sec-Fetch-Site": site, "Origin": APP}
        assert client.patch("/v1/documents/d", json={"title": "t"}, headers=allowed).status_code == 200
        assert client.get("/v1/documents/forged").status_code == 404

    @pytest.mark.parametrize("site", ["same-origin", "none"])
    def test_e17_a_page_of_this_server_may_write(self, client: httpx.Client, site: str) -> None:
        headers = {"Sec-Fetch-Site": site, "Origin": f"https://{PUBLIC}"}
        assert client.patch("/v1/documents/d", json={"title": site}, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "*/*"]
    )
    def test_e17_a_type_that_a_form_can_send_is_not_read(self, client: httpx.Client, media_type: str) -> None:
        body, headers = json.dumps({"name": "forged"}).encode(), {"Content-Type": media_type}
        assert client.post("/v1/documents", content=body, headers=headers).status_code == 415
        assert client.post("/v1/documents/d/updates", content=b"\0\0", headers=headers).status_code == 415
        if media_type:
            assert client.post("/v1/documents/d/snapshots", headers=headers).status_code == 415
        assert client.get("/v1/documents/forged").status_code == 404


class TestShapes:
    @pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "PROPFIND", "LOCK"])
    @pytest.mark.parametrize("path", ["/v1/documents/d", "/", "/livez", "/openapi.json"])
    def test_e18_other_methods_are_refused(self, client: httpx.Client, method: str, path: str) -> None:
        answer = client.request(method, path)
        assert answer.status_code in ({405} if method in {"PUT", "TRACE", "OPTIONS"} else {400, 405})
        assert "ann" not in answer.text

    @pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
    def test_e18_a_method_in_a_header_or_query_is_no_method(self, client: httpx.Client, name: str) -> None:
        answer = client.get("/v1/documents/d", headers={name: "DELETE"}, params={name: "DELETE"})
        assert answer.status_code == 200
        assert client.post("/v1/documents/d", headers={name: "DELETE"}).status_code == 405
        assert client.get("/v1/documents/d").status_code == 200

    def test_e19_nothing_but_the_api_describes_the_server(self, client: httpx.Client, machine_port: int) -> None:
        for path in ("/docs", "/redoc", "/metrics", "/admin", "/debug", "/.env", "/server-status"):
            assert client.get(path).status_code == 404, path
        metrics = httpx.get(f"http://127.0.0.1:{machine_port}/metrics", **PLAIN)
        assert "collab_sessions" in metrics.text
        assert "server" not in metrics.headers
        for path in ("/livez", "/readyz"):
            assert httpx.get(f"http://127.0.0.1:{machine_port}{path}", **PLAIN).status_code == 200
        for path in ("/", "/v1/documents", "/openapi.json", "/yjs/d"):
            assert httpx.get(f"http://127.0.0.1:{machine_port}{path}", **PLAIN).status_code == 404

    def test_e19_the_description_can_be_switched_off(self) -> None:
        with RunningServer.start("--no-openapi") as running:
            assert httpx.get(f"{running.url}/openapi.json", **PLAIN).status_code == 404
            assert httpx.get(f"{running.url}/v1/documents", **PLAIN).status_code == 200

    def test_e20_a_form_of_ten_thousand_parts_is_not_read(self, client: httpx.Client) -> None:
        parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n\r\n' for n in range(10_000))
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert client.post("/v1/documents", content=parts.encode(), headers=headers).status_code == 415
        large = client.post("/v1/documents", content=b"-" * (11 << 20), headers=headers)
        assert large.status_code == 413

    @pytest.mark.parametrize("value", ["bytes=0-" + ",0-" * 10_000, "bytes=-1", "bytes=9-1", "lines=1"])
    def test_e20_a_range_changes_nothing(self, client: httpx.Client, value: str) -> None:
        whole = client.get("/favicon.svg")
        ranged = client.get("/favicon.svg", headers={"Range": value[:8000]})
        assert (ranged.status_code, ranged.content) == (200, whole.content)

    def test_h2_what_is_refused_is_a_problem_without_what_was_sent(self, client: httpx.Client) -> None:
        secret = "canary-7c2f"
        answers = [
            client.get(f"/v1/{secret}"),
            client.get("/v1/documents", headers={"Authorization": f"Bearer {secret}"}),
            client.post("/v1/documents", content=secret, headers=JSON),
            client.post("/v1/documents", content=secret, headers={"Content-Type": secret}),
        ]
        for answer in answers:
            assert answer.headers["content-type"] == "application/problem+json"
            assert secret not in answer.text


def test_k01_what_is_not_fit_for_production_does_not_start() -> None:
    with pytest.raises(RuntimeError) as refused:
        RunningServer.start(env={"COLLAB_ENVIRONMENT": "production", "COLLAB_JWT_SECRET": "changeme"})
    said = str(refused.value)
    assert "exited with 2" in said
    for word in ("COLLAB_AUTH=jwt", "COLLAB_PUBLIC_URL", "COLLAB_METRICS_PORT"):
        assert word in said
    assert "changeme" not in said
