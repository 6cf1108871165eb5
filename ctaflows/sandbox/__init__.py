"""A dCache-like door, an OpenID Connect issuer and a sample night, all on loopback."""
