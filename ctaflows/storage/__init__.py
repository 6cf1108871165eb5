"""Storage services: WebDAV doors such as dCache's, and the platform's download service."""
