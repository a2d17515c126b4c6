"""``python -m tinylm``, and ``torchrun -m tinylm``: the command line."""

from tinylm.cli import main

if __name__ == "__main__":
    main()
