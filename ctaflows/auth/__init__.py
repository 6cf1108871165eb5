"""OAuth 2.0 tokens: found, read, stored, renewed."""
