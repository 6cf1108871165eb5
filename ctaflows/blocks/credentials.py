"""The block CTACredentials: a login at an issuer, renewed wherever it is used."""
# Annotations are not put off here: pydantic reads them.

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
    """A login at an OpenID Connect issuer, renewed wherever it is used.

    For workers that share no home. A refresh token that the issuer changes is saved back to the
    block, and one worker renews at a time. Who shares a home needs no block: the login of
    `ctaflows token login` is enough.

    Example:
        Load a stored login and get a token that is valid now:
        ```python
        from ctaflows.blocks import CTACredentials

        credentials = CTACredentials.load("BLOCK_NAME")
        token = credentials.token().get_secret_value()
        ```
    """

    # what does not validate is not repeated: it may be a secret
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "CTA Credentials"
    _block_type_slug = block_profiles.CREDENTIALS
    _logo_url = page("logo-credentials.png")
    _documentation_url = page("collection.html")
    _word: str | None = PrivateAttr(default=None)

    issuer_url: str = Field(
        default=_settings.Settings.issuer_url,
        title="Issuer URL",
        description="OpenID Connect issuer: its address, without a trailing slash.",
    )
    client_id: str = Field(
        default=_settings.Settings.client_id,
        title="Client ID",
        description="OAuth 2.0 client that the login belongs to.",
    )
    client_secret: SecretStr | None = Field(
        default=None, description="Secret of that client; none for a public client."
    )
    refresh_token: SecretStr | None = Field(
        default=None,
        description="Refresh token of the login; the block replaces it when the issuer does.",
    )
    audience: str | None = Field(
        default=None,
        description="Whom tokens are asked for, where the issuer wants to be told.",
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
        """Give what this block says of the settings."""
        return block_profiles.BlockProfile(
            values={"ca_file": self.ca_file} if self.ca_file else {},
            identity=self._identity(),
            credentials=self._saved_name(),
        )

    def profile_name(self) -> str:
        """Give what tasks take as ``profile``, for the block as it is in this process."""
        slug = f"{self._block_type_slug}/{self._block_document_name or 'unsaved'}"
        self._word = block_profiles.word_for(self, slug, self._word)
        return self._word

    def settings(self) -> "Settings":
        """Give the settings that hold with this login, all others being those of the profile.

        Raises
        ------
        UsageError
            The block is not saved: a refresh token that the issuer changes would be lost.
        """
        return _settings.load(self.profile_name())

    def get_client(self, *args: Any, **kwargs: Any) -> "TokenProvider":
        """Give what renews the token: a token source for each request to a door."""
        from ctaflows.auth.renewal import TokenProvider

        return TokenProvider(self.settings())

    def token(self) -> SecretStr:
        """Give an access token that is valid now; it lives for minutes.

        Returns
        -------
        SecretStr
            ``get_secret_value()`` tells it; ``print`` and logs do not.

        Raises
        ------
        TokenMissing
            Nobody has logged in with this block yet.
        LoginNeeded
            The issuer will not renew it: a person must log in again.
        """
        provider = self.get_client()
        token = provider.token()
        self._take_back(provider)
        return SecretStr(token)

    def refresh(self) -> "TokenInfo":
        """Renew the token now; see `ctaflows.tasks.refresh_token`."""
        from ctaflows.tasks import refresh_token

        info = refresh_token(profile=self.profile_name())
        self._take_back(self.get_client())
        return info

    def keep(self) -> "TokenInfo":
        """Renew the token if half of its life is over; see `ctaflows.tasks.keep_token`."""
        from ctaflows.tasks import keep_token

        info = keep_token(profile=self.profile_name())
        self._take_back(self.get_client())
        return info

    def log_in(self, show: "Callable[[DeviceLogin], None]") -> "TokenInfo":
        """Log in with a browser on any device, and save the login to the block.

        Parameters
        ----------
        show : Callable
            Shows a person where to go (``uri``) and what to type (``user_code``).
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
                hint="Save them with .save(NAME): a refresh token that the issuer changes has to "
                "be kept somewhere.",
            )
        return self._block_document_name

    def _take_back(self, provider: "TokenProvider") -> None:
        """Follow a refresh token that was changed, lest saving this block bring back the old."""
        tokens = provider.store.read()
        if tokens is not None and tokens.refresh_token:
            self.refresh_token = SecretStr(tokens.refresh_token)
