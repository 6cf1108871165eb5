"""OAuth 2.0 tokens: discovery, storage, device login and renewal."""
