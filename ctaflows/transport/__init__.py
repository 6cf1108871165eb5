"""The one seam to HTTP."""
