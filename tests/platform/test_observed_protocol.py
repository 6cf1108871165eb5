"""The sandbox's services do what was observed of the platform's, asked by another client."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from proxykit import certificate_pem, new_key, proxy_pem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

JSON = {"Content-Type": "application/json"}
OWN = "lst/users/jane_doe__example_org"


@pytest.fixture
def client(box: Sandbox, hub: Hub, token: str) -> Iterator[httpx.Client]:
    box.put("/lst/a/run 1.h5", b"x" * 1000)
    box.put("/lst/a/b/c", b"y")
    context = ssl.create_default_context(cafile=str(box.ca_file))
    headers = {**JSON, "Authorization": f"Bearer {token}"}
    with httpx.Client(verify=context, base_url=hub.downloadservice_url, headers=headers) as client:
        yield client


def test_list(client: httpx.Client, hub: Hub) -> None:
    found = client.get("list/lst/a").json()
    assert [e["href"] for e in found] == ["lst/a/", "lst/a/b/", "lst/a/run%201.h5"]
    assert [e["type"] for e in found] == ["directory", "directory", "file"]
    assert [e.get("size") for e in found] == [None, None, "1000"]
    assert found[2]["url"] == f"{hub.downloadservice_url}list/lst/a/run%201.h5"
    assert found[2]["mtime"].endswith("GMT")
    assert [e["href"] for e in client.get("list/lst/a/run 1.h5").json()] == ["lst/a/run%201.h5"]
    # the root's own href is empty, and the service calls it a file
    assert client.get("list").json()[0] == {
        **client.get("list").json()[0], "href": "", "type": "file",
    }  # fmt: skip
    assert client.get("list/nowhere").status_code == 404


def test_fetch_streams_without_length_or_ranges(client: httpx.Client) -> None:
    answer = client.get("fetch/lst/a/run 1.h5?chunk_size=100", headers={"Range": "bytes=10-"})
    assert answer.status_code == 200
    assert answer.content == b"x" * 1000
    assert "content-length" not in answer.headers
    assert answer.headers["content-disposition"] == "attachment; filename=run 1.h5"
    assert client.get("fetch/lst/a..b").status_code == 400


def test_fetch_hides_the_storages_errors(client: httpx.Client, hub: Hub) -> None:
    assert client.get("fetch/nowhere").status_code == 200
    hub.deny("/lst/a")
    answer = client.get("fetch/lst/a/run 1.h5")
    assert (answer.status_code, answer.text) == (200, "Permission denied\n")


def test_upload(client: httpx.Client, box: Sandbox, hub: Hub) -> None:
    answer = client.post("upload/f/new.txt", content=b"hello")
    assert answer.json() == {"path": f"{OWN}/f/new.txt", "status": "uploaded", "total_written": 5}
    assert (box.storage / OWN / "f/new.txt").read_bytes() == b"hello"
    chunked = client.post("upload/f/new.txt", content=iter([b"by", b"e"]))
    assert chunked.json()["total_written"] == 3
    assert client.post("upload/f/..x", content=b"1").status_code == 400
    other = hub.add_user("guest", uploads=False)
    refused = client.post("upload/x", content=b"1", headers={"Authorization": f"Bearer {other}"})
    assert (refused.status_code, refused.reason_phrase) == (403, "Missing rights to upload files")


def test_webdav(client: httpx.Client, box: Sandbox) -> None:
    listing = client.request("PROPFIND", "webdav/lst/a", headers={"Depth": "1"})
    assert listing.status_code == 207
    assert "/services/downloadservice/webdav/lst/a/run%201.h5<" in listing.text
    assert client.get("webdav/lst/a/run 1.h5").content == b"x" * 1000
    assert client.put(f"webdav/{OWN}/x", content=b"1").status_code == 201
    assert client.request("MKCOL", f"webdav/{OWN}/new").status_code == 201
    refused = client.put("webdav/lst/a/x", content=b"1")
    assert refused.status_code == 403
    assert refused.reason_phrase.startswith("Missing rights to write in")
    for method in ("MOVE", "DELETE", "COPY", "LOCK"):
        assert client.request(method, f"webdav/{OWN}/x").status_code == 405
    assert (box.storage / OWN / "x").exists()


def test_strangers(client: httpx.Client, hub: Hub) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    answer = client.get("list/lst", headers=wrong)
    assert (answer.status_code, answer.json()) == (
        401, {"message": "Invalid or missing Bearer token"},
    )  # fmt: skip
    login = client.get("list/lst", headers={**wrong, "Content-Type": "text/plain"})
    assert login.status_code == 302
    assert login.headers["location"].startswith("/hub/api/oauth2/authorize")
    certificate = client.post(f"{hub.certificateservice_url}certificate", headers=wrong, json={})
    assert certificate.status_code == 302, "this service sends programs to the login page too"
    narrow = hub.add_user("narrow", services=("certificateservice",))
    answer = client.get("list/lst", headers={"Authorization": f"Bearer {narrow}"})
    assert answer.status_code == 403


def test_certificates(client: httpx.Client, hub: Hub) -> None:
    url = f"{hub.certificateservice_url}certificate"

    def post(text: str, key: str = "cta") -> tuple[int, str]:
        answer = client.post(url, json={"certificate": text, "certificate_key": key, "user": None})
        return answer.status_code, answer.text

    text = proxy_pem()
    assert post(text)[0] == 200
    assert hub.certificates == {("Jane.Doe2@example.org", "cta"): text}
    assert post("nothing") == (400, "no valid certificate provided")
    assert post(proxy_pem(days=-1)) == (400, "certificate expired")
    too_long = certificate_pem(new_key(), days=30)
    assert post(too_long)[0] == 400
    assert "validity too long" in post(too_long)[1]
    hub.troubles.add("says_stored")
    assert post(too_long)[0] == 200, "observed: the refusal stands where the validity should be"
    assert len(hub.certificates) == 1
    assert post(text, "nonsense")[0] == 500
    shared = f"{hub.certificateservice_url}main-certificate"
    assert client.post(shared, json={"certificate": text}).status_code == 401
    admin = {"Authorization": f"Bearer {hub.add_user('admin', admin=True)}"}
    answer = client.post(shared, json={"certificate": text}, headers=admin)
    assert answer.json()["certificateUploaded"] is True
    assert client.post(shared, json={"certificate": too_long}, headers=admin).status_code == 400
