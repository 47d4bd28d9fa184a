"""Runs a program of a foreign container on the native interpreter.

Prefix, standard library and packages are the container's already: the interpreter finds them by the name it was started
under. Bent here are what the machine is called, which extension modules there are, and where native ones come from; and
what is started by its path goes through kiln's stand-ins as what is started by its name does.
"""

import sys


def disguise():
    import _imp
    import posix
    from ast import literal_eval
    from importlib import machinery

    shim, links, native_root = "/dev/kiln/twin/kiln-twin", "/dev/shm/kiln-twin", "/dev/native"

    with open(posix.environ.pop(b"KILN_TWIN_FACTS").decode(), encoding="utf-8") as file:
        facts = {name: literal_eval(value) for name, _, value in (line.rstrip("\n").partition("\t") for line in file)}
    import os

    os.environ.pop("KILN_TWIN_FACTS", None)

    # What the machine is called.
    real = posix.uname()
    name = posix.uname_result((real.sysname, real.nodename, real.release, real.version, facts["machine"]))
    os.uname = posix.uname = lambda: name
    sys.version = facts["version"]
    sys._git = facts["git"]
    if facts["multiarch"]:
        sys.implementation._multiarch = facts["multiarch"]

    # Extension modules: those of the container cannot be loaded here. Where their names tell the architecture they are
    # not even seen, and the same path below the native root has ours; where they do not, the file itself tells.
    def elf_machine(path):
        with open(path, "rb") as file:
            head = file.read(20)
        return head[18:20] if head[:4] == b"\x7fELF" else None

    own = elf_machine("/proc/self/exe")

    class Loader(machinery.ExtensionFileLoader):
        def create_module(self, spec):
            if elf_machine(spec.origin) != own:
                spec.origin = self.path = native_root + spec.origin
            return super().create_module(spec)

    class Native:
        """Native extension modules where the container's folders have none for this interpreter."""

        finders = {}

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            for folder in sys.path if path is None else path:
                if not isinstance(folder, str) or not folder.startswith("/") or folder.startswith(native_root + "/"):
                    continue
                finder = cls.finders.get(folder)
                if finder is None:
                    finder = machinery.FileFinder(native_root + folder, (Loader, _imp.extension_suffixes()))
                    cls.finders[folder] = finder
                spec = finder.find_spec(name)
                if spec is not None and spec.loader is not None:
                    return spec
            return None

    hook = machinery.FileFinder.path_hook(
        (Loader, _imp.extension_suffixes()),
        (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )
    import zipimport

    sys.path_hooks[:] = [zipimport.zipimporter, hook]
    sys.path_importer_cache.clear()
    sys.meta_path.append(Native)
    # The import system keeps its own list; this one is for those that look for the container's modules.
    machinery.EXTENSION_SUFFIXES[:] = facts["suffixes"]

    # Numbers.
    if facts.get("libm_differs"):
        sys.path.insert(0, os.path.dirname(__file__))
        import x87

        del sys.path[0], sys.modules["x87"]
        x87.as_others(native_root)
        ask_for_powers()

    # Programs that are started by their path.
    def stands_in(path):
        """Whether kiln's stand-in decides about this program."""
        path = os.fsdecode(path)
        folder, name = os.path.split(path)
        if not folder or folder == links or path == shim:
            return False
        if name.startswith("python") or os.path.lexists(os.path.join(links, name)):
            return os.path.exists(path)
        try:
            with open(path, "rb") as file:
                return file.read(2) == b"#!" and b"python" in file.readline(254)
        except OSError:
            return False

    def through(path, arguments):
        if path is not None and not isinstance(path, int) and stands_in(path):
            arguments = list(arguments)
            arguments[:1] = [os.fspath(path)]
            return shim, arguments
        return path, arguments

    def wrap(function):
        def wrapped(path, arguments, *rest, **named):
            path, arguments = through(path, arguments)
            return function(path, arguments, *rest, **named)

        return wrapped

    for function in ("execv", "execve", "posix_spawn"):
        wrapped = wrap(getattr(posix, function))
        setattr(posix, function, wrapped)
        setattr(os, function, wrapped)

    import _posixsubprocess

    fork_exec = _posixsubprocess.fork_exec

    def fork_exec_through(arguments, executables, *rest):
        # The candidates, in the order of the path that the new process sees: the first that exists is the one.
        for executable in executables:
            if os.path.exists(executable):
                path, routed = through(executable, arguments)
                if path == shim:
                    arguments, executables = [os.fsencode(argument) for argument in routed], (os.fsencode(shim),)
                break
        return fork_exec(arguments, executables, *rest)

    _posixsubprocess.fork_exec = fork_exec_through
    return shim


def ask_for_powers():
    """Powers of floating-point numbers, which Nuitka computes beforehand, by the container's interpreter."""
    import _operator
    import builtins
    import operator

    children = []
    code = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    base, exponent = eval(line, {'inf': float('inf'), 'nan': float('nan')})\n"
        "    try: answer = ('value', base ** exponent)\n"
        "    except Exception as error: answer = (type(error).__name__, error.args)\n"
        "    print(repr(answer), flush=True)\n"
    )

    def ask(base, exponent):
        import subprocess

        if not children:
            command = [sys.executable, "-I", "-S", "-c", code]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            children.append(child)
        children[0].stdin.write(repr((base, exponent)) + "\n")
        children[0].stdin.flush()
        kind, value = eval(children[0].stdout.readline(), {"inf": float("inf"), "nan": float("nan")})
        if kind == "value":
            return value
        raise getattr(builtins, kind)(*value)

    own = builtins.pow

    def pow(base, exp, mod=None):
        plain = type(base) in (int, float) and type(exp) in (int, float) and mod is None
        if plain and (float in (type(base), type(exp)) or exp < 0):
            return ask(base, exp)
        return own(base, exp, mod)

    builtins.pow = pow
    for module in (operator, _operator):
        for name in ("pow", "ipow", "__pow__", "__ipow__"):
            setattr(module, name, lambda base, exponent: pow(base, exponent))


def launch(shim, scan_at_exit):
    import os

    arguments = sys.argv[1:]
    sys.orig_argv = [argument for argument in sys.orig_argv if argument != __file__]
    isolated = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if not isolated:
        # The folder of this file, put there by the interpreter.
        del sys.path[0]
    main = sys.modules["__main__"]
    for name in ("ask_for_powers", "disguise", "launch", "scan_at_exit", "__file__", "__cached__"):
        main.__dict__.pop(name, None)
    if arguments[0] == "-m":
        module = arguments[1]
        if module.partition(".")[0] in ("ensurepip", "pip", "venv", "virtualenv"):
            scan_at_exit(shim)
        if not isolated:
            sys.path.insert(0, os.getcwd())
        sys.argv[:] = ["-m", *arguments[2:]]
        import runpy

        runpy._run_module_as_main(module)
        return
    if arguments[0] == "-c":
        if not isolated:
            sys.path.insert(0, "")
        sys.argv[:] = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec", dont_inherit=True), main.__dict__)
        return
    sys.argv[:] = arguments
    path = arguments[0]
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        import runpy

        sys.path.insert(0, path)
        runpy._run_module_as_main("__main__", False)
        return
    if not isolated:
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    if os.path.basename(path).startswith(("pip", "virtualenv")):
        scan_at_exit(shim)
    from importlib.machinery import SourceFileLoader

    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def scan_at_exit(shim):
    """What was installed may be called by its name afterwards."""
    import atexit
    import os

    def scan():
        process = os.fork()
        if process == 0:
            try:
                os.execv(shim, [shim, "scan"])
            finally:
                os._exit(127)
        os.waitpid(process, 0)

    atexit.register(scan)


launch(disguise(), scan_at_exit)
