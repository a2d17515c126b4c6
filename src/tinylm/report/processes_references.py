"""The works on training by several processes that the report's prose can cite."""

from __future__ import annotations

from tinylm.report.reference import Reference

PROCESSES: dict[str, Reference] = {
    "rajbhandari2020": Reference(
        "S. Rajbhandari, J. Rasley, O. Ruwase and Y. He",
        2020,
        "ZeRO: memory optimizations toward training trillion parameter models",
        "International Conference for High Performance Computing, Networking, Storage and Analysis",
        "https://arxiv.org/abs/1910.02054",
    ),
    "patarasuk2009": Reference(
        "P. Patarasuk and X. Yuan",
        2009,
        "Bandwidth optimal all-reduce algorithms for clusters of workstations",
        "Journal of Parallel and Distributed Computing 69(2), 117-124",
        "https://doi.org/10.1016/j.jpdc.2008.09.002",
    ),
}
