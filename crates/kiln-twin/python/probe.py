"""Prints what the native and the container's interpreter must agree in, a name and a value a line."""

import os
import struct
import sys

sys.path.insert(0, "/dev/kiln/twin")
import x87

x87.as_others("/dev/native")
suffixes = __import__("_imp").extension_suffixes()


def sample(functions, count=400):
    """What functions of two numbers give for a fixed series of arguments, as one number."""
    state, total = 1, 0
    for _ in range(count):
        pair = []
        for scale in (100, 4):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            pair.append((state >> 11) / 2**53 * scale)
        for function in functions:
            total = (total * 31 + hash(function(*pair))) % 2**61
    return total


def libm():
    """Exponential functions; the others go back to them, or are exact."""
    math = x87.native("math", "/dev/native")
    return sample([lambda a, b: a**b, lambda a, b: math.exp(b), lambda a, b: math.log(a), lambda a, b: math.sin(a)])


facts = {
    "version": sys.version,
    "hexversion": sys.hexversion,
    "version_info": tuple(sys.version_info),
    "platform": sys.platform,
    "maxsize": sys.maxsize,
    "maxunicode": sys.maxunicode,
    "byteorder": sys.byteorder,
    "builtin_module_names": sys.builtin_module_names,
    "long": struct.calcsize("l"),
    "pointer": struct.calcsize("P"),
    "abiflags": sys.abiflags,
    "cache_tag": sys.implementation.cache_tag,
    "implementation": sys.implementation.name,
    "float": tuple(sys.float_info),
    "int": tuple(sys.int_info),
    "hash": tuple(sys.hash_info),
    "platlibdir": getattr(sys, "platlibdir", ""),
    "git": getattr(sys, "_git", ""),
    "machine": os.uname().machine,
    "multiarch": getattr(sys.implementation, "_multiarch", ""),
    "suffixes": suffixes,
    "arithmetic": sample([float.__add__, float.__sub__, float.__mul__, float.__truediv__, float.__mod__]),
    "libm": libm(),
}
for name, value in facts.items():
    print(name, repr(value), sep="\t")
