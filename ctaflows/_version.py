"""The version, in a module of its own that `ctaflows` and its modules can import."""

__version__ = "0.1.1"
