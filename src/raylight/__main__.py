"""``python -m raylight`` is the command ``raylight``."""

from raylight.cli import main

if __name__ == "__main__":
    main()
