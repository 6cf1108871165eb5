"""What may be sent to the certificate service, and what is refused here."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
from proxykit import certificate_pem, key_pem, new_key, proxy_pem

from ctaflows.ctadata.certificates import allowed_keys, load, read
from ctaflows.ctadata.errors import CertificateError

if TYPE_CHECKING:
    from pathlib import Path


def refused(text: str) -> str:
    with pytest.raises(CertificateError) as why:
        read(text)
    assert "-----BEGIN" not in str(why.value)
    return str(why.value)


def test_a_proxy_goes_as_it_is() -> None:
    text = proxy_pem()
    proxy = read(text)
    assert proxy.text == text
    assert proxy.has_key
    assert "Jane Doe" in proxy.subject
    assert "PRIVATE" not in repr(proxy)


def test_a_certificate_without_a_key_goes_too() -> None:
    text = certificate_pem(new_key(), days=3)
    assert read(text).text == text
    assert not read(text).has_key


def test_what_stands_around_the_blocks_is_left_out() -> None:
    text = proxy_pem()
    noisy = f"password: hunter2\n{text}friendlyName: me\n"
    assert read(noisy).text == text


def test_a_key_alone_is_never_sent() -> None:
    assert "without its certificate is never sent" in refused(key_pem(new_key()))


def test_another_certificates_key_is_never_sent() -> None:
    text = certificate_pem(new_key(), days=1) + key_pem(new_key())
    assert "without its certificate is never sent" in refused(text)


def test_two_keys_are_never_sent() -> None:
    key = new_key()
    text = certificate_pem(key, days=1) + key_pem(key) + key_pem(new_key())
    assert "never sent" in refused(text)


def test_the_key_of_a_certificate_for_a_year_is_never_sent() -> None:
    key = new_key()
    said = refused(certificate_pem(key, days=365) + key_pem(key))
    assert "good for 365 days is never sent" in said


def test_the_service_decides_on_a_certificate_for_a_year_without_a_key() -> None:
    assert not read(certificate_pem(new_key(), days=365)).has_key


def test_an_encrypted_key_is_of_no_use() -> None:
    key = new_key()
    said = refused(certificate_pem(key, days=1) + key_pem(key, b"secret"))
    assert "more in this" in said or "encrypted" in said


@pytest.mark.parametrize("text", [proxy_pem(days=-0.1), proxy_pem(own_days=-1)])
def test_an_expired_one_is_refused_wherever_in_the_chain(text: str) -> None:
    assert "expired on" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        certificate_pem(new_key())[:-40],
    ],
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    assert refused(text)


def test_a_damaged_key_is_not_shown() -> None:
    key = new_key()
    lines = key_pem(key).splitlines()
    lines[1] = lines[1][::-1]
    said = refused(certificate_pem(key, days=1) + "\n".join(lines) + "\n")
    assert "can't be used" in said
    assert lines[1] not in said


def test_other_things_in_the_file_are_not_sent() -> None:
    key = new_key()
    odd = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    assert "OPENSSH" in refused(certificate_pem(key, days=1) + odd)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not found"):
        load(tmp_path / "none.pem")
    (tmp_path / "der").write_bytes(b"\x30\x82\xff\x00")
    with pytest.raises(CertificateError, match="no PEM"):
        load(tmp_path / "der")
    (tmp_path / "bad.pem").write_text("nothing")
    with pytest.raises(CertificateError, match=r"bad\.pem") as why:
        load(tmp_path / "bad.pem")
    assert str(pickle.loads(pickle.dumps(why.value))) == str(why.value)
    with pytest.raises(CertificateError, match="can't be read"):
        load(tmp_path)


def test_keys_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTACS_ALLOWED_CERT_KEYS", raising=False)
    assert allowed_keys() == ["cta", "lst", "arc"]
    monkeypatch.setenv("CTACS_ALLOWED_CERT_KEYS", "a, b,")
    assert allowed_keys() == ["a", "b"]
