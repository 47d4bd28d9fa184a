"""Prints what the native and the container's interpreter must agree in, a name and a value a line."""

import os
import struct
import sys

suffixes = __import__("_imp").extension_suffixes()
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
}
for name, value in facts.items():
    print(name, repr(value), sep="\t")
