/* `readelf -d` for little-endian ELF files: prints the needed libraries, the soname and the library paths in the format of
   binutils, which is all that Nuitka reads of it. */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *file;
static size_t size;

struct segment { uint64_t type, offset, address, length; };
struct entry { uint64_t tag, value; };

static int wide(void) { return file[EI_CLASS] == ELFCLASS64; }

static int segment(int i, struct segment *out) {
    if (wide()) {
        Elf64_Ehdr *e = (void *)file;
        Elf64_Phdr *p = (void *)(file + e->e_phoff + (size_t)i * e->e_phentsize);
        if (i >= e->e_phnum || (unsigned char *)(p + 1) > file + size) return 0;
        *out = (struct segment){p->p_type, p->p_offset, p->p_vaddr, p->p_filesz};
    } else {
        Elf32_Ehdr *e = (void *)file;
        Elf32_Phdr *p = (void *)(file + e->e_phoff + (size_t)i * e->e_phentsize);
        if (i >= e->e_phnum || (unsigned char *)(p + 1) > file + size) return 0;
        *out = (struct segment){p->p_type, p->p_offset, p->p_vaddr, p->p_filesz};
    }
    return 1;
}

static uint64_t file_offset(uint64_t address) {
    struct segment s;
    for (int i = 0; segment(i, &s); i++)
        if (s.type == PT_LOAD && address >= s.address && address < s.address + s.length)
            return address - s.address + s.offset;
    return size;
}

static int entry(struct segment dynamic, size_t i, struct entry *out) {
    size_t width = wide() ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn), at = dynamic.offset + i * width;
    if ((i + 1) * width > dynamic.length || at + width > size) return 0;
    if (wide()) {
        Elf64_Dyn *d = (void *)(file + at);
        *out = (struct entry){d->d_tag, d->d_un.d_val};
    } else {
        Elf32_Dyn *d = (void *)(file + at);
        *out = (struct entry){d->d_tag, d->d_un.d_val};
    }
    return out->tag != DT_NULL;
}

static const char *label(uint64_t tag) {
    switch (tag) {
    case DT_NEEDED: return "(NEEDED)             Shared library";
    case DT_SONAME: return "(SONAME)             Library soname";
    case DT_RPATH: return "(RPATH)              Library rpath";
    case DT_RUNPATH: return "(RUNPATH)            Library runpath";
    default: return NULL;
    }
}

static int show(const char *path) {
    FILE *stream = fopen(path, "rb");
    if (!stream) return fprintf(stderr, "readelf: Error: '%s': No such file\n", path), 1;
    fseek(stream, 0, SEEK_END);
    size = ftell(stream);
    rewind(stream);
    file = calloc(size + 1, 1); /* the added byte ends a string table that is cut off */
    if (!file || fread(file, 1, size, stream) != size) return perror(path), 1;
    fclose(stream);
    if (size < sizeof(Elf64_Ehdr) || memcmp(file, ELFMAG, SELFMAG))
        return fprintf(stderr, "readelf: Error: Not an ELF file - it has the wrong magic bytes at the start\n"), 1;
    struct segment dynamic, s;
    int found = 0;
    for (int i = 0; segment(i, &s); i++)
        if (s.type == PT_DYNAMIC) dynamic = s, found = 1;
    if (!found) return puts("\nThere is no dynamic section in this file."), 0;
    struct entry e;
    uint64_t strings = size;
    for (size_t i = 0; entry(dynamic, i, &e); i++)
        if (e.tag == DT_STRTAB) strings = file_offset(e.value);
    for (size_t i = 0; entry(dynamic, i, &e); i++)
        if (label(e.tag) && strings + e.value < size)
            printf(" 0x%0*llx %s: [%s]\n", wide() ? 16 : 8, (unsigned long long)e.tag, label(e.tag), (char *)file + strings + e.value);
    free(file);
    return 0;
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-') failed |= show(argv[i]);
    return failed;
}
