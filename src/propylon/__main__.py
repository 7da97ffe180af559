"""Run the command line: `python -m propylon`."""

from propylon.cli import main

if __name__ == "__main__":
    main()
