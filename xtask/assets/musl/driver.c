/* The compiler driver of the musl builder images: one static program under several names, which hands its arguments to
   `zig` with the image's target. A program of the host's architecture rather than a script, so that no emulated shell
   starts for each file in an image of a foreign architecture. TARGET is defined at build time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ZIG "/opt/zig/zig"

/* Whether the arguments ask for something other than a dynamically linked program. */
static int no_program(char **argv) {
    static const char *const others[] = {"-c", "-S", "-E", "-M", "-MM", "-r", "-shared", "-static", "-static-pie", NULL};
    for (; *argv; argv++)
        for (int i = 0; others[i]; i++)
            if (!strcmp(*argv, others[i])) return 1;
    return 0;
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    int plus = strstr(name, "++") != NULL;
    int compiler = plus || !strcmp(name, "cc") || !strcmp(name, "clang");
    char **out = calloc(argc + 8, sizeof *out);
    int n = 0;
    if (!out) return 127;
    out[n++] = ZIG;
    out[n++] = compiler ? (plus ? "c++" : "cc") : (char *)name; /* else ar, ranlib, objcopy, ... */
    if (compiler) {
        out[n++] = "-target";
        out[n++] = TARGET;
        /* zig's defaults are for finding bugs; these are a distribution compiler's. */
        out[n++] = "-fno-sanitize=undefined";
        out[n++] = "-Wno-date-time";
        /* On musl zig links statically unless told otherwise, for which it would compile all of libc. */
        if (!no_program(argv + 1)) out[n++] = "-dynamic";
    }
    for (int i = 1; i < argc; i++) out[n++] = argv[i];
    execv(ZIG, out);
    perror(ZIG);
    return 127;
}
