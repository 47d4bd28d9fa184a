"""Says whether the compiled parts of the requirements are there, or their slow stand-ins."""

from importlib import import_module

import markupsafe
import psutil
import yaml


def report():
    yield f"libyaml {'yes' if yaml.__with_libyaml__ else 'no'}"
    yield f"markupsafe {'C' if 'speedups' in markupsafe._escape_inner.__module__ else 'Python'}"
    # The package hides this module behind a function of the same name.
    crcmod = import_module("crcmod.crcmod")
    yield f"crcmod {'C' if crcmod._usingExtension else 'Python'}"
    yield f"psutil {'sees itself' if psutil.Process().is_running() else 'is lost'}"
