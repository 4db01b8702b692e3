"""Letters of five by seven dots for pictures: what every dot-matrix display shows, so that no font has to be installed."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

HEIGHT: Final = 7
WIDTH: Final = 5
_FIRST: Final = 32
_COLUMNS: Final = (
    "000000000000005f00000007000700147f147f14242a7f2a12231308646236495522500005030000001c2241000041221c00"
    "14083e081408083e080800503000000808080808006060000020100804023e5149453e00427f400042615149462141454b31"
    "1814127f1027454545393c4a49493001710905033649494936064949291e0036360000005636000008142241001414141414"
    "00412214080201510906324979413e7e1111117e7f494949363e414141227f4141221c7f494949417f090909013e4149497a"
    "7f0808087f00417f41002040413f017f081422417f404040407f020c027f7f0408107f3e4141413e7f090909063e4151215e"
    "7f09192946464949493101017f01013f4040403f1f2040201f3f4038403f631408146307087008076151494543007f414100"
    "02040810200041417f0004020102044040404040000102040020545454787f484444383844444420384444487f3854545418"
    "087e0901020c5252523e7f0804047800447d40002040443d007f1028440000417f40007c041804787c080404783844444438"
    "7c14141408081414187c7c080404084854545420043f4440203c4040207c1c2040201c3c4030403c44281028440c5050503c"
    "4464544c44000836410000007f000000413608001008081008"
)
"""Five columns a letter from the space on, one byte each, the lowest bit on top."""
_UNKNOWN: Final = "?"


def bitmap(words: str) -> npt.NDArray[np.bool_]:
    """Return `words` as dots (7, 6 a letter); what has no letter here is a question mark."""
    letters = [_letter(one) for one in words]
    return np.concatenate([*letters, np.zeros((HEIGHT, 0), bool)], axis=1)


@cache
def _all() -> npt.NDArray[np.bool_]:
    columns = np.frombuffer(bytes.fromhex(_COLUMNS), np.uint8).reshape(-1, WIDTH)
    dots = (columns[:, None, :] >> np.arange(HEIGHT)[None, :, None]) & 1
    return np.asarray(np.pad(dots.astype(bool), ((0, 0), (0, 0), (0, 1))))


def _letter(one: str) -> npt.NDArray[np.bool_]:
    number = ord(one) - _FIRST
    return np.asarray(_all()[number if 0 <= number < len(_all()) else ord(_UNKNOWN) - _FIRST])
