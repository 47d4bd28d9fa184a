"""Arithmetic of 386 programs as on other machines.

A 386 without SSE rounds twice: to the 64 bits of its registers, then to the 53 of a `double`. With its control word set
to 53 bits, sums, products and quotients are those of every other machine. The C library's exponential functions still
differ in their last bit.
"""

import sys


def is_386():
    with open("/proc/self/exe", "rb") as file:
        return file.read(20)[18:20] == b"\x03\x00"


def native(name, root):
    """A native extension module; where the container's own is found first, which cannot be loaded here, by the same path
    below another root."""
    import _imp
    from importlib import import_module, machinery, util

    try:
        return import_module(name)
    except ImportError:
        pass
    for folder in sys.path:
        finder = machinery.FileFinder(root + folder, (machinery.ExtensionFileLoader, _imp.extension_suffixes()))
        spec = finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            sys.modules[name] = module = util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError(f"no native {name}", name=name)


def as_others(root):
    """Sets the precision of this thread and those that it starts; nothing on other machines."""
    if not is_386():
        return
    for name in ("_struct", "_ctypes"):
        native(name, root)
    import ctypes

    libm = ctypes.CDLL("libm.so.6")
    # fenv_t: 28 bytes, the control word first; bits 8 and 9 of it are the precision.
    environment = (ctypes.c_uint16 * 32)()
    if libm.fegetenv(environment) != 0:
        raise OSError("fegetenv")
    environment[0] = environment[0] & ~0x300 | 0x200
    if libm.fesetenv(environment) != 0:
        raise OSError("fesetenv")
