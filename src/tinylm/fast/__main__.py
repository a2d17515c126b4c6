"""``python -m tinylm.fast``: compile the loops of training and decoding in advance.

Otherwise each is compiled when it is first used, which then takes some seconds.
"""

from __future__ import annotations

from tinylm.fast.loops import available, prepare

if __name__ == "__main__" and available():
    prepare()
