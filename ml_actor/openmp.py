"""Find an OpenMP runtime for LightGBM on machines that have none installed.

LightGBM's wheel needs the system's `libgomp.so.1`, which a bare machine lacks; scikit-learn's wheel brings a copy under
another name. A training child is started with a library path on which that copy has the name that LightGBM asks for; a process
that runs already can `preload` it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import tempfile
from pathlib import Path

SONAME = "libgomp.so.1"


def has_system_openmp() -> bool:
    """Return whether the loader finds `libgomp.so.1`."""
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        return False
    return True


def bundled_openmp() -> Path | None:
    """Return the runtime that scikit-learn's wheel carries, or None. Does not import scikit-learn."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parents[1] / "scikit_learn.libs"
    return next(iter(sorted(folder.glob("libgomp*.so*"))), None)


def openmp_environment(link_dir: Path) -> dict[str, str]:
    """Return the environment variables to add to a training child; empty where the system has OpenMP.

    Makes `link_dir` with a link to the bundled copy. Without either, returns {} and LightGBM's own error says what to install.
    """
    if has_system_openmp():
        return {}
    bundled = bundled_openmp()
    if bundled is None:
        return {}
    link_dir.mkdir(parents=True, exist_ok=True)
    link = link_dir / SONAME
    link.unlink(missing_ok=True)
    link.symlink_to(bundled)
    return {"LD_LIBRARY_PATH": str(link_dir)}


def preload() -> bool:
    """Load the bundled copy into this process under the name that LightGBM asks for, where the system has none; return whether it did.

    To be called before LightGBM is imported. The loader knows a library by the name inside it (DT_SONAME), so a copy with another
    name is loaded, and needs no file afterwards.
    """
    bundled = None if has_system_openmp() else bundled_openmp()
    if bundled is None:
        return False
    own_name = bundled.name.encode() + b"\0"
    content = bundled.read_bytes().replace(own_name, SONAME.encode().ljust(len(own_name), b"\0"))
    with tempfile.TemporaryDirectory(prefix="openmp-") as folder:
        copy = Path(folder) / SONAME
        copy.write_bytes(content)
        ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)
    return True
