"""The public API is what the package's first page says, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import robustness_gate as rg


@pytest.mark.parametrize("name", rg.PUBLIC)
def test_each_name_is_what_its_module_has(name: str) -> None:
    assert getattr(rg, name) is getattr(import_module(rg.PUBLIC[name]), name)
    assert f"rg.{name}(" in (rg.__doc__ or "") or name == "Asked"
    assert name in dir(rg)


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'jugde'"):
        _ = rg.jugde


def test_importing_the_package_imports_none_of_it() -> None:
    code = "import sys, robustness_gate; print([m for m in sys.modules if m.startswith('robustness_gate.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
