"""The command line as a module: ``python -m ctaflows`` is ``ctaflows``."""

from ctaflows.cli import main

if __name__ == "__main__":
    main()
