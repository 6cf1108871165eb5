"""Transfers of files: what to do (decide), downloads, uploads, verification, manifests."""
