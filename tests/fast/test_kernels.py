"""What every compiled loop must hold."""

from __future__ import annotations

import gc
import importlib
import pkgutil

import pytest

from tinylm.fast import loops


@pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
def test_a_kernel_is_found_again_by_other_processes() -> None:
    """numba's cache goes by what a closure holds, and a compiled function is another each time."""
    from numba.core.dispatcher import Dispatcher

    from tinylm.fast.loops.launch import Kernel

    for module in pkgutil.iter_modules(loops.__path__):
        importlib.import_module(f"{loops.__name__}.{module.name}")
    kernels = [each for each in gc.get_objects() if isinstance(each, Kernel)]
    assert len(kernels) > 20
    for kernel in kernels:
        entry = kernel._compiled._pyfunc
        held = [cell.cell_contents for cell in entry.__closure__ or ()]
        assert not any(isinstance(each, Dispatcher) for each in held), entry.__qualname__
