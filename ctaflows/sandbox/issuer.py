"""An OpenID Connect issuer with Keycloak's endpoints and responses, built on Authlib and Flask.

Texts and codes are those observed with Keycloak 26.7.3 where a comment says so.
"""

from __future__ import annotations

import functools
import html
import logging
from typing import TYPE_CHECKING, Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE
from flask import Flask, jsonify, request

from ctaflows.sandbox.messages import call_wsgi
from ctaflows.sandbox.tokens import (
    AUTH_METHODS,
    SCOPE,
    Client,
    Credential,
    DeviceEndpoint,
    DeviceGrant,
    Login,
    RefreshGrant,
    Revocation,
)

if TYPE_CHECKING:
    from ctaflows.sandbox.messages import Request, Response
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.tokens import Tokens

REALM = "/realms/sandbox"
# At level DEBUG Authlib logs whole tokens.
logging.getLogger("authlib").setLevel(logging.WARNING)
_OIDC = f"{REALM}/protocol/openid-connect"


class Issuer:
    """Responds to requests as an OpenID Connect issuer.

    Parameters
    ----------
    tokens : Tokens
        Issues and checks the tokens.
    client : Client
        The only registered client.
    quirks : Quirks
        Supplies the lifetime and polling interval of a device login.

    Attributes
    ----------
    logins : dict
        Device code to pending login.
    """

    def __init__(self, tokens: Tokens, client: Client, quirks: Quirks) -> None:
        self.tokens = tokens
        self.logins: dict[str, Login] = {}
        self._client = client
        self._quirks = quirks

    def handle(self, asked: Request) -> Response:
        """Return the response to a request."""
        return call_wsgi(self._app, asked.environ)

    @functools.cached_property
    def _app(self) -> Flask:
        """The Flask application, created at the first request: most sandboxes never need it."""
        app = Flask("ctaflows.sandbox.issuer")
        app.logger.addHandler(logging.NullHandler())
        server = AuthorizationServer(app, self._query_client, lambda _token, _request: None)
        server.tokens, server.logins, server.issuer = self.tokens, self.logins, self
        server.register_token_generator("default", self._generate)
        server.register_grant(RefreshGrant)
        server.register_grant(DeviceGrant)
        device = DeviceEndpoint(server)
        interval_s = self._quirks.login_interval_s
        device.EXPIRES_IN = self._quirks.login_lifetime_s
        device.INTERVAL = int(interval_s) if interval_s == int(interval_s) else interval_s
        server.register_endpoint(device)
        server.register_endpoint(Revocation)
        self._route(app, server)
        return app

    def login(self, user_code: str) -> Login | None:
        """Return the pending login with a user code, or None."""
        logins: list[Login] = list(self.logins.values())
        return next((login for login in logins if login.user_code == user_code), None)

    def decide(self, user_code: str, *, is_approved: bool) -> bool:
        """Approve or deny a login; return False if there is none with that code."""
        login = self.login(user_code)
        if login is not None:
            login.is_approved = is_approved
        return login is not None

    def _query_client(self, client_id: str) -> Client | None:
        return self._client if client_id == self._client.client_id else None

    def _generate(self, *, user: Credential, scope: str | None = None, **_: Any) -> dict[str, Any]:
        return self.tokens.pair(scope or user.scope, user.subject, user.session)

    def _discovery(self) -> dict[str, Any]:
        base = self.tokens.issuer.removesuffix(REALM) + _OIDC
        return {
            "issuer": self.tokens.issuer,
            "token_endpoint": f"{base}/token",
            "device_authorization_endpoint": f"{base}/auth/device",
            "revocation_endpoint": f"{base}/revoke",
            "jwks_uri": f"{base}/certs",
            "grant_types_supported": ["refresh_token", DEVICE_CODE_GRANT_TYPE],
            "token_endpoint_auth_methods_supported": AUTH_METHODS,
            "scopes_supported": SCOPE.split(),
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
        }

    def _route(self, app: Flask, server: AuthorizationServer) -> None:
        @app.get(f"{REALM}/.well-known/openid-configuration")
        def discovery() -> Any:
            return jsonify(self._discovery())

        @app.get(f"{_OIDC}/certs")
        def certificates() -> Any:
            return jsonify({"keys": [k.as_dict(private=False) for k in self.tokens.keys]})

        @app.post(f"{_OIDC}/token")
        def token() -> Any:
            return server.create_token_response()

        @app.post(f"{_OIDC}/auth/device")
        def device() -> Any:
            return server.create_endpoint_response(DeviceEndpoint.ENDPOINT_NAME)

        @app.post(f"{_OIDC}/revoke")
        def revoke() -> Any:
            return server.create_endpoint_response(Revocation.ENDPOINT_NAME)

        @app.get(f"{REALM}/device")
        def ask() -> str:
            code = html.escape(request.args.get("user_code", ""), quote=True)
            return (
                "<!DOCTYPE html><title>Sandbox login</title><form method=post>"
                f'<input name=user_code value="{code}"><button>Let this device in</button></form>'
            )

        @app.post(f"{REALM}/device")
        def approve() -> str:
            known = self.decide(request.form.get("user_code", ""), is_approved=True)
            return "You are logged in; close this page." if known else "There is no such code."
