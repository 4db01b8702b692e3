"""The door: `python main.py --help`."""

import sys

try:
    from framework.cli import main
except ModuleNotFoundError as exc:
    if (exc.name or "framework").split(".")[0] in {"framework", "strategies"}:
        raise
    sys.exit(f"error: {exc.name} is not installed in {sys.prefix}; run: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    main()
