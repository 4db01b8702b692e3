"""The door: `python main.py --help`."""

from framework.cli import main

if __name__ == "__main__":
    main()
