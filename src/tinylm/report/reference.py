"""A work that can be cited."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One entry of the list of references."""

    authors: str
    year: int
    title: str
    venue: str
    link: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}{self.stop} {self.venue}."

    @property
    def stop(self) -> str:
        """What ends the title: a full stop, unless it ends with a mark of its own."""
        return "" if self.title[-1:] in "?!" else "."

    @property
    def is_address(self) -> bool:
        """Whether the venue is the address of the work itself, which is then not printed twice."""
        return self.venue.startswith("arXiv:")
