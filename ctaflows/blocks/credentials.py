"""The Prefect block CTACredentials: a login at an OpenID Connect issuer."""
# no `from __future__ import annotations`: pydantic evaluates the annotations of the fields

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from ctaflows import block_profiles
from ctaflows import settings as _settings
from ctaflows.blocks.site import page
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.auth.renewal import TokenProvider
    from ctaflows.auth.tokens import TokenInfo
    from ctaflows.settings import Settings


class CTACredentials(CredentialsBlock):
    """A login at an OpenID Connect issuer, whose access token is renewed wherever it is used.

    For workers without a shared home directory; with one, the login of `ctaflows token login` is
    enough. When the issuer rotates the refresh token, the new one is saved to the block, and only
    one worker renews at a time.

    Example:
        Load a stored login and get a token that is valid now:
        ```python
        from ctaflows.blocks import CTACredentials

        credentials = CTACredentials.load("BLOCK_NAME")
        token = credentials.token().get_secret_value()
        ```
    """

    # errors do not quote invalid values, which may be secrets
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "CTA Credentials"
    _block_type_slug = block_profiles.CREDENTIALS
    _logo_url = page("logo-credentials.png")
    _documentation_url = page("collection.html")
    _word: str | None = PrivateAttr(default=None)

    issuer_url: str = Field(
        default=_settings.Settings.issuer_url,
        title="Issuer URL",
        description="URL of the OpenID Connect issuer, without a trailing slash.",
    )
    client_id: str = Field(
        default=_settings.Settings.client_id,
        title="Client ID",
        description="OAuth 2.0 client to which the tokens are issued.",
    )
    client_secret: SecretStr | None = Field(
        default=None, description="Secret of the client; empty for a public client."
    )
    refresh_token: SecretStr | None = Field(
        default=None,
        description="Refresh token of the login; replaced here when the issuer rotates it.",
    )
    audience: str | None = Field(
        default=None,
        description="Audience of the access tokens, for issuers that require one in requests.",
    )
    ca_file: Path | None = Field(
        default=None,
        title="CA file",
        description="CA bundle (file) or hashed directory where the flow runs; the system's if not"
        " given.",
    )

    @field_validator("issuer_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(_settings.check("issuer_url", value))

    def as_profile(self) -> block_profiles.BlockProfile:
        """Return the settings in this block."""
        return block_profiles.BlockProfile(
            values={"ca_file": self.ca_file} if self.ca_file else {},
            identity=self._identity(),
            credentials=self._saved_name(),
        )

    def profile_name(self) -> str:
        """Return the ``profile`` of tasks for this block object; it is valid in this process."""
        slug = f"{self._block_type_slug}/{self._block_document_name or 'unsaved'}"
        self._word = block_profiles.word_for(self, slug, self._word)
        return self._word

    def settings(self) -> "Settings":
        """Return the settings with this login; all others are those of the default profile.

        Raises
        ------
        UsageError
            The block is not saved: a rotated refresh token would be lost.
        """
        return _settings.load(self.profile_name())

    def get_client(self, *args: Any, **kwargs: Any) -> "TokenProvider":
        """Return the token provider of this login, which renews the token when it has to."""
        from ctaflows.auth.renewal import TokenProvider

        return TokenProvider(self.settings())

    def token(self) -> SecretStr:
        """Return a valid access token, renewed if need be; it expires within minutes.

        Returns
        -------
        SecretStr
            ``get_secret_value()`` returns the token; ``print`` and logs do not show it.

        Raises
        ------
        TokenMissing
            There is no login in this block yet.
        LoginNeeded
            The issuer refuses to renew it: log in again.
        """
        provider = self.get_client()
        token = provider.token()
        self._take_back(provider)
        return SecretStr(token)

    def refresh(self) -> "TokenInfo":
        """Renew the token now, and return its description; see `ctaflows.tasks.refresh_token`."""
        from ctaflows.tasks import refresh_token

        info = refresh_token(profile=self.profile_name())
        self._take_back(self.get_client())
        return info

    def keep(self) -> "TokenInfo":
        """Renew the token if half of its lifetime is over; see `ctaflows.tasks.keep_token`."""
        from ctaflows.tasks import keep_token

        info = keep_token(profile=self.profile_name())
        self._take_back(self.get_client())
        return info

    def log_in(self, show: "Callable[[DeviceLogin], None]") -> "TokenInfo":
        """Log in by the OAuth 2.0 device grant (RFC 8628), and save the login to the block.

        Parameters
        ----------
        show : Callable
            Called with the URL that the user has to open in a browser (``uri``), on any device, and
            the code to enter there (``user_code``).

        Returns
        -------
        TokenInfo
            The new access token's issuer, scopes and times.
        """
        provider = self.get_client()
        info = provider.log_in(show)
        self._take_back(provider)
        return info

    def _identity(self) -> dict[str, Any]:
        secret = self.client_secret.get_secret_value() if self.client_secret else None
        return {
            "issuer_url": self.issuer_url,
            "client_id": self.client_id,
            "client_secret": secret or None,
            "client_secret_file": None,
            "audience": self.audience,
            "token_source": "store",
        }

    def _saved_name(self) -> str:
        if not self._block_document_name:
            raise UsageError(
                "These credentials are not saved",
                hint="Save them with .save(NAME): a refresh token that the issuer rotates has to "
                "be stored.",
            )
        return self._block_document_name

    def _take_back(self, provider: "TokenProvider") -> None:
        """Copy a rotated refresh token into this object, whose next save would restore the old."""
        tokens = provider.store.read()
        if tokens is not None and tokens.refresh_token:
            self.refresh_token = SecretStr(tokens.refresh_token)
