"""From a path to text: a plain file of UTF-8, at most 256 KiB, without tabs and control characters."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

import yaml

from framework.strict_yaml.problems import ConfigFileError, Problem, did_you_mean

MAX_BYTES: Final = (256 if hasattr(yaml, "CSafeLoader") else 64) * 1024
"""What is parsed within a second, with libyaml and (a quarter of it) without."""

_UNWANTED: Final = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)")
_WIDE_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def read_text(path: Path) -> str:
    """Return the text of `path` without a byte order mark. Raises `ConfigFileError`."""
    return decode(_read_bytes(path), str(path))


def decode(content: bytes, source: str) -> str:
    """Return `content` as text. Raises `ConfigFileError` for anything but UTF-8, for tabs and for control characters."""
    if content.startswith(_WIDE_MARKS) or b"\x00" in content[:4]:
        raise _refusal(source, "found UTF-16 or UTF-32; allowed UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line, column = _position(content[: exc.start].decode("utf-8-sig", "replace"))
        raise _refusal(source, f"found the byte 0x{content[exc.start]:02x}, which is not UTF-8; allowed UTF-8", line, column) from exc
    refuse_unwanted(text, source)
    return text


def refuse_unwanted(text: str, source: str) -> None:
    """Raise `ConfigFileError` at the first tab, control character or line break that is not LF or CRLF."""
    found = _UNWANTED.search(text)
    if found is None:
        return
    line, column = _position(text[: found.start()])
    if found.group() == "\t":
        raise _refusal(source, "found a tab; allowed spaces", line, column)
    raise _refusal(source, f"found the control character U+{ord(found.group()):04X}; allowed text", line, column)


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _read_bytes(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise _refusal(str(path), f"found no such file{_nearest_file(path)}") from exc
    except (OSError, ValueError) as exc:
        raise _refusal(str(path), f"cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _refusal(str(path), f"found {_kind(mode)}; allowed a file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise _refusal(str(path), f"cannot be read: {exc.strerror}") from exc
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise _refusal(str(path), f"found more than {MAX_BYTES // 1024} KiB; allowed at most {MAX_BYTES // 1024} KiB")
    return content


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "a device, pipe or socket"


def _nearest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml"}]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def _refusal(source: str, text: str, line: int = 0, column: int = 0) -> ConfigFileError:
    return ConfigFileError([Problem(source, line, column, text)])
