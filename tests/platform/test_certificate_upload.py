"""Certificates on their way to the service: by the library, by both command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from proxykit import certificate_pem, key_pem, new_key, proxy_pem
from scripts import fails, ok

from ctaflows import ctadata
from ctaflows.ctadata import CertificateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox.hub import Hub

USER = "Jane.Doe2@example.org"


@pytest.fixture
def proxy(here: Path, token: str) -> str:
    text = proxy_pem()
    (here / "proxy.pem").write_text(text)
    return text


@pytest.fixture
def admin(hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch) -> str:
    admin = hub.add_user("admin", admin=True)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", admin)
    return admin


def posts(hub: Hub) -> int:
    return sum(r.method == "POST" for r in hub.requests)


def test_for_everything(proxy: str, hub: Hub) -> None:
    answer = ctadata.upload_certificate("proxy.pem")
    assert answer["message"] == "Certificate stored"
    assert hub.certificates == {(USER, key): proxy for key in ("cta", "lst", "arc")}


def test_for_one_purpose(proxy: str, hub: Hub, here: Path) -> None:
    assert ctadata.upload_personal_certificate(here / "proxy.pem", "lst")["validity"]
    assert hub.certificates == {(USER, "lst"): proxy}


def test_for_somebody_else(proxy: str, admin: str, hub: Hub) -> None:
    ctadata.upload_personal_certificate("proxy.pem", "cta", user="john")
    ctadata.upload_personal_certificate("proxy.pem", certificate_key="cta", user=None)
    assert set(hub.certificates) == {("john", "cta"), ("admin", "cta")}


def test_for_all(proxy: str, admin: str, hub: Hub) -> None:
    assert ctadata.upload_shared_certificate("proxy.pem")["certificateUploaded"] is True
    assert hub.certificates == {("", ""): proxy}


def test_settings_of_one_call(proxy: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    other = hub.add_user("other")
    monkeypatch.setenv("CTACS_URL", "https://localhost:1/")
    ctadata.upload_personal_certificate(
        "proxy.pem", "cta", token=other, certificateservice=hub.certificateservice_url
    )
    assert set(hub.certificates) == {("other", "cta")}


def test_keys(proxy: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CertificateError, match="key invalid: nonsense") as why:
        ctadata.upload_personal_certificate("proxy.pem", "nonsense")
    assert "cta, lst, arc" in (why.value.hint or "")
    assert posts(hub) == 0
    monkeypatch.setenv("CTACS_ALLOWED_CERT_KEYS", "arc")
    with pytest.raises(CertificateError):
        ctadata.upload_personal_certificate("proxy.pem", "cta")
    ctadata.upload_certificate("proxy.pem")
    assert set(hub.certificates) == {(USER, "arc")}


UPLOADS: list[Callable[[str], Any]] = [
    ctadata.upload_certificate,
    lambda file: ctadata.upload_personal_certificate(file, "cta"),
    ctadata.upload_shared_certificate,
]


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize(
    "text",
    ["nothing", key_pem(new_key()), proxy_pem(days=-1), certificate_pem(new_key()) + "x" + key_pem(
        new_key())],
)  # fmt: skip
def test_what_may_not_be_sent_is_not(
    upload: Callable[[str], Any], text: str, hub: Hub, admin: str, here: Path
) -> None:
    (here / "bad.pem").write_text(text)
    with pytest.raises(CertificateError):
        upload("bad.pem")
    assert len(hub.requests) == 0


@pytest.mark.parametrize("upload", UPLOADS)
def test_what_the_service_does_not_take(
    upload: Callable[[str], Any], hub: Hub, admin: str, here: Path
) -> None:
    (here / "long.pem").write_text(certificate_pem(new_key(), days=30))
    with pytest.raises(CertificateError, match="validity too long"):
        upload("long.pem")
    assert hub.certificates == {}


def test_a_refusal_that_is_called_stored(hub: Hub, token: str, here: Path) -> None:
    hub.troubles.add("says_stored", times=None)
    (here / "long.pem").write_text(certificate_pem(new_key(), days=30))
    with pytest.raises(CertificateError, match=r"does not take .*validity too long"):
        ctadata.upload_personal_certificate("long.pem", "cta")


@pytest.mark.parametrize("upload", UPLOADS)
def test_strangers(
    upload: Callable[[str], Any], proxy: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "c" * 32)
    with pytest.raises(CertificateError, match="asks for a login"):
        upload("proxy.pem")
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    with pytest.raises(ctadata.TokenError):
        upload("proxy.pem")


def test_only_administrators_replace_the_shared_one(proxy: str, hub: Hub) -> None:
    with pytest.raises(CertificateError, match="401"):
        ctadata.upload_shared_certificate("proxy.pem")
    assert hub.certificates == {}


def test_a_service_that_repeats_the_key(proxy: str, hub: Hub) -> None:
    from ctaflows.sandbox.messages import Response

    hub.instead = lambda _request: Response(400, {}, f"bad: {proxy!r}".encode())
    with pytest.raises(CertificateError) as why:
        ctadata.upload_personal_certificate("proxy.pem", "cta")
    assert "bad:" in str(why.value)
    assert "BEGIN" not in f"{why.value} {why.value.said} {vars(why.value)}"


def test_a_service_that_is_down(proxy: str, hub: Hub) -> None:
    hub.close()
    with pytest.raises(CertificateError, match="can't be reached"):
        ctadata.upload_personal_certificate("proxy.pem", "cta")


# -- command lines ---------------------------------------------------------------------------------


def test_ctaflows_certificate(proxy: str, hub: Hub) -> None:
    assert "Certificate stored, good until" in ok("ctaflows", "certificate", "upload", "proxy.pem")
    assert len(hub.certificates) == 3
    hub.certificates.clear()
    said = ok("ctaflows", "certificate", "upload", "--personal", "lst", "--json", "proxy.pem")
    assert '"message": "Certificate stored"' in said
    assert set(hub.certificates) == {(USER, "lst")}
    admin = hub.add_user("admin", admin=True)
    ok("ctaflows", "certificate", "upload", "--shared", "proxy.pem", JUPYTERHUB_API_TOKEN=admin)
    assert ("", "") in hub.certificates


def test_ctaflows_certificate_refused(proxy: str, hub: Hub, here: Path) -> None:
    upload = ("ctaflows", "certificate", "upload")
    (here / "key.pem").write_text(key_pem(new_key()))
    (here / "old.pem").write_text(proxy_pem(days=-1))
    assert "never sent" in fails(2, *upload, "key.pem")
    assert "expired on" in fails(2, *upload, "old.pem")
    assert "exclude" in fails(2, *upload, "--shared", "--personal", "cta", "proxy.pem")
    assert "401" in fails(5, *upload, "--shared", "proxy.pem")
    assert "login" in fails(5, *upload, "proxy.pem", JUPYTERHUB_API_TOKEN="d" * 32)
    fails(2, *upload, "nothing.pem")
    assert hub.certificates == {}


@pytest.mark.parametrize("script", ["ctadata", "cta-data"])
def test_ctadatas_scripts(script: str, proxy: str, hub: Hub, here: Path) -> None:
    (here / "old.pem").write_text(proxy_pem(days=-1))
    said = ok(script, "upload-personal-certificate", "proxy.pem", "lst")
    assert "Certificate stored" in said
    admin = hub.add_user("admin", admin=True)
    env = {"JUPYTERHUB_API_TOKEN": admin}
    ok(script, "upload-personal-certificate", "proxy.pem", "cta", "-u", "john", **env)
    ok(script, "upload-shared-certificate", "proxy.pem", **env)
    assert set(hub.certificates) == {(USER, "lst"), ("john", "cta"), ("", "")}
    fails(2, script, "upload-personal-certificate", "proxy.pem", "nonsense")
    fails(2, script, "upload-personal-certificate", "old.pem", "lst")
    fails(2, script, "upload-shared-certificate", "old.pem")
    fails(5, script, "upload-shared-certificate", "proxy.pem")
