"""``python -m tinylm.fast``: compile the loops that training and decoding use as they come.

They are compiled when they are first wanted otherwise, which takes some seconds then.
"""

from __future__ import annotations

from tinylm.fast.loops import available, prepare

if __name__ == "__main__" and available():
    prepare()
