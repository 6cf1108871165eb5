"""The version: in a module of its own, for modules that the root itself loads."""

__version__ = "0.1.1"
