"""The sandbox's issuer: grants, device login, faults."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
from talk import BROKEN, PATH, Reply, Talker

from ctaflows.sandbox import Fault, Quirks

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def test_discovery(make):
    talk = make()
    found = json.loads(
        talk.ask("GET", f"{talk.box.issuer_url}/.well-known/openid-configuration").body
    )
    assert found["issuer"] == talk.box.issuer_url
    assert found["token_endpoint"].startswith(talk.box.issuer_url)
    keys = json.loads(talk.ask("GET", found["jwks_uri"]).body)["keys"]
    assert "d" not in keys[0]
    from joserfc import jwk, jwt

    token = talk.box.issue_token(60, "openid x", "somebody")
    claims = jwt.decode(token, jwk.KeySet.import_key_set({"keys": keys})).claims
    assert claims["iss"] == talk.box.issuer_url
    assert (claims["sub"], claims["scope"], claims["exp"] - claims["iat"]) == (
        "somebody",
        "openid x",
        60,
    )
    assert {"aud", "jti"} <= set(claims)


def refresh(talk: Talker, token: str) -> Reply:
    return talk.token(grant_type="refresh_token", refresh_token=token)


def test_refresh_rotates(make):
    talk = make(token_lifetime_s=120)
    first = talk.box.tokens()
    reply = refresh(talk, first["refresh_token"])
    second = json.loads(reply.body)
    assert (reply.status, second["expires_in"], second["token_type"]) == (200, 120, "Bearer")
    assert second["refresh_token"] != first["refresh_token"]
    assert talk.door("HEAD", PATH, token=second["access_token"]).status == 200
    reused = refresh(talk, first["refresh_token"])
    assert (reused.status, json.loads(reused.body)["error"]) == (400, "invalid_grant")
    assert refresh(talk, second["refresh_token"]).status == 200


def test_refresh_without_rotation(make):
    talk = make(rotate=False)
    token = talk.box.tokens()["refresh_token"]
    assert [refresh(talk, token).status for _ in range(2)] == [200, 200]


def test_reuse_ends_session(make):
    talk = make(reuse_ends_session=True)
    first = talk.box.tokens()["refresh_token"]
    second = json.loads(refresh(talk, first).body)["refresh_token"]
    assert refresh(talk, first).status == 400
    assert refresh(talk, second).status == 400


def test_of_many_refreshes_one_wins(make):
    box = make().box
    token = box.tokens()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: refresh(Talker(box), token).status, range(8)))
    assert sorted(statuses) == [200] + [400] * 7


def test_client_authentication(make):
    talk = make()
    form = {"grant_type": "refresh_token", "refresh_token": talk.box.tokens()["refresh_token"]}
    pair = f"{talk.box.client_id}:{talk.box.client_secret}".encode()
    wrong = {"Authorization": "Basic " + base64.b64encode(pair + b"x").decode()}
    right = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    reply = talk.form("token", form, wrong)
    assert (reply.status, json.loads(reply.body)["error"]) == (401, "invalid_client")
    assert talk.token(**form, client_secret="no").status == 401
    assert talk.form("token", form, right).status == 200


def start_login(talk: Talker) -> dict:
    form = {"client_id": talk.box.client_id, "client_secret": talk.box.client_secret}
    reply = talk.form("auth/device", form | {"scope": "openid offline_access"})
    assert reply.status == 200
    return json.loads(reply.body)


def poll(talk: Talker, login: dict) -> str:
    reply = talk.token(grant_type=DEVICE, device_code=login["device_code"])
    return json.loads(reply.body).get("error", "ok")


def test_device_login(make):
    talk = make()
    login = start_login(talk)
    assert login["interval"] == 5
    assert poll(talk, login) == "authorization_pending"
    assert poll(talk, login) == "slow_down"
    assert talk.box.approve(login["user_code"])
    reply = talk.token(grant_type=DEVICE, device_code=login["device_code"])
    assert refresh(talk, json.loads(reply.body)["refresh_token"]).status == 200
    assert poll(talk, login) == "invalid_grant"
    assert not talk.box.approve("NO-SUCH")


def test_device_login_denied_or_late(make):
    talk = make()
    login = start_login(talk)
    assert talk.box.deny_login(login["user_code"])
    assert poll(talk, login) == "access_denied"
    talk = make(login_lifetime_s=-1)
    assert poll(talk, start_login(talk)) == "expired_token"


def test_device_login_in_a_browser(make):
    talk = make(login_interval_s=0.0)
    login = start_login(talk)
    page = talk.ask("GET", login["verification_uri_complete"])
    assert login["user_code"].encode() in page.body
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    talk.ask("POST", login["verification_uri"], urlencode({"user_code": login["user_code"]}), kind)
    assert poll(talk, login) == "ok"


def test_revocation_endpoint(make):
    talk = make()
    tokens = talk.box.tokens()
    form = {"client_id": talk.box.client_id, "client_secret": talk.box.client_secret}
    assert talk.form("revoke", form | {"token": tokens["access_token"]}).status == 200
    assert talk.door("HEAD", PATH, token=tokens["access_token"]).status == 401
    assert talk.form("revoke", form | {"token": tokens["refresh_token"]}).status == 200
    assert refresh(talk, tokens["refresh_token"]).status == 400


@pytest.mark.parametrize("status", ["503", "500", "429"])
def test_issuer_fault_status(make, status):
    talk = make()
    token = talk.box.tokens()["refresh_token"]
    talk.box.faults.add(status, server="issuer")
    assert [refresh(talk, token).status for _ in range(2)] == [int(status), 200]


def test_issuer_fault_html(make):
    talk = make(Fault("html", server="issuer"))
    reply = refresh(talk, talk.box.tokens()["refresh_token"])
    assert (reply.status, reply.headers["content-type"][:9]) == (200, "text/html")


@pytest.mark.parametrize(("name", "after"), [("reset", 200), ("lost", 400)])
def test_issuer_fault_connection(make, name, after):
    talk = make(Fault(name, server="issuer"))
    token = talk.box.tokens()["refresh_token"]
    with pytest.raises(BROKEN):
        refresh(talk, token)
    talk.connections.clear()
    assert refresh(talk, token).status == after


def test_issuer_fault_hang(make):
    talk = make(Fault("hang", server="issuer", hang_s=0.1))
    token = talk.box.tokens()["refresh_token"]
    with pytest.raises(http.client.RemoteDisconnected):
        refresh(talk, token)
    talk.connections.clear()
    assert refresh(talk, token).status == 200


def test_every_quirk_has_a_test():
    here = Path(__file__).parent.glob("test_sandbox_*.py")
    text = "".join(file.read_text(encoding="utf-8") for file in here)
    missing = [f.name for f in dataclasses.fields(Quirks) if f"{f.name}=" not in text]
    assert not missing
