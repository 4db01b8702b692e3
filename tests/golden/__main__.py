"""Compute the golden runs and compare them with what is kept, or keep them: `python -m tests.golden [--write]`."""

from __future__ import annotations

import argparse
import sys

import msgspec

from tests.golden.golden import PATH, Golden, runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--write", action="store_true", help="Keep what the runs give now: a deliberate change of behaviour.")
    arguments = parser.parse_args()
    found, kept = runs(), read()
    for name, figures in found.items():
        was = kept.get(name, {})
        changes = {key: (was.get(key), value) for key, value in figures.items() if was.get(key) != value}
        print(f"{name}: {'as before' if not changes else ', '.join(f'{key} {old} -> {new}' for key, (old, new) in changes.items())}")
    if arguments.write:
        PATH.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return 0 if arguments.write or found == kept else 1


def read() -> Golden:
    return msgspec.json.decode(PATH.read_bytes(), type=Golden) if PATH.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
