"""The webdav4 client on the download service's ``webdav/``; loaded when it is asked for.

webdav4 takes longer to import than all else that `ctaflows.ctadata` needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webdav4.client import Client

from ctaflows.ctadata.errors import StorageException
from ctaflows.storage.jupyterhub import LOGIN
from ctaflows.transport import origin
from ctaflows.transport.tls_context import ssl_context

if TYPE_CHECKING:
    from ctaflows.settings import Settings


class WebdavClient(Client):  # type: ignore[misc]  # untyped
    """A webdav4 client, with the one method that ctadata's README names and webdav4 has not.

    Parameters
    ----------
    api : APIClient
        Where `uploadFile` uploads.
    *args, **options : Any
        Those of `webdav4.client.Client`.
    """

    def __init__(self, api: Any, *args: Any, **options: Any) -> None:
        self._api = api
        super().__init__(*args, **options)

    def uploadFile(self, from_path: str, to_path: str) -> dict[str, Any]:  # noqa: N802
        """Upload a file below one's own directory, as `ctaflows.ctadata.upload_file`."""
        answer: dict[str, Any] = self._api.upload_file(from_path, to_path)
        return answer


def client(settings: Settings, api: Any) -> WebdavClient:
    """Make a client that is let in, verifies TLS, and sends the token to this service alone."""
    token, home = settings.hub_token, origin(settings.service_url)

    def let_in(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def refuse_login(response: Any) -> None:
        # a redirect elsewhere leads to a pool of the storage, and goes there without the token
        location = response.headers.get("location", "")
        if response.is_redirect and origin(str(response.url.join(location))) == home:
            raise StorageException(
                "The service asks for a login", where=str(response.url), hint=LOGIN
            )

    return WebdavClient(
        api,
        f"{settings.service_url}/webdav",
        auth=let_in,
        verify=ssl_context(settings),
        timeout=settings.stall_timeout_s,
        event_hooks={"response": [refuse_login]},
    )
