"""``python -m prunebench``: the command line."""

from prunebench.cli.app import main

if __name__ == "__main__":
    main()
