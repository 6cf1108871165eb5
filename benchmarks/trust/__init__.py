"""What ctaflows and other tools make of a storage that lies."""
