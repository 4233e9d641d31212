/* Which libcuda.so.1 a program gets, by asking the dynamic loader itself: it lists, with libcuda.so.1 preloaded by
 * name, what it would load, in the order in which it looks (DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, cache, usual
 * folders). The program does not run. Then: of which build that library is. */
#include "build_mark.h"
#include "doctor.h"
#include "driver_find.h"
#include "ivgpu_calls.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHIM_FOLDER_STANDARD "/usr/lib/ivgpu"

struct program {
        char path[PATH_MAX];
        char loader[PATH_MAX]; /* its PT_INTERP; empty: linked statically */
        int rc;                /* -ENOEXEC: no ELF file; -ELIBBAD: of another kind of machine */
};

/* A script's interpreter, from its first line; "env NAME" is looked for in PATH as env does. */
static bool script_follow(const char *text, char path[PATH_MAX])
{
        char line[256], *word, *rest = line;

        if (strncmp(text, "#!", 2) != 0)
                return false;
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(text + 2, "\n"), text + 2);
        while ((word = strsep(&rest, " \t")) != NULL)
                if (word[0] != '\0' && word[0] != '-' && strcmp(word, "/usr/bin/env") != 0) {
                        snprintf(path, PATH_MAX, "%s", word);
                        return true;
                }
        return false;
}

static void elf_read(int fd, const Elf64_Ehdr *header, struct program *program)
{
        Elf64_Phdr segment;

        program->rc = header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_machine == EM_X86_64 ? 0 : -ELIBBAD;
        for (uint16_t i = 0; program->rc == 0 && i < header->e_phnum; i++) {
                const off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);
                ssize_t bytes = 0;

                if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment) || segment.p_type != PT_INTERP)
                        continue;
                if (segment.p_filesz < sizeof(program->loader))
                        bytes = pread(fd, program->loader, segment.p_filesz, (off_t)segment.p_offset);
                program->loader[bytes > 0 ? bytes : 0] = '\0';
        }
}

static void program_read(const char *name, struct program *program)
{
        union {
                Elf64_Ehdr header;
                char text[512];
        } begin;
        char next[PATH_MAX];

        ivg_in_path_find(name, program->path);
        for (int step = 0; step < 4; step++) { /* scripts of scripts */
                const int fd = open(program->path, O_RDONLY | O_CLOEXEC);
                ssize_t bytes;

                program->rc = fd < 0 ? -errno : -ENOEXEC;
                if (fd < 0)
                        return;
                memset(&begin, 0, sizeof(begin));
                bytes = pread(fd, &begin, sizeof(begin) - 1, 0);
                if (bytes >= (ssize_t)sizeof(begin.header) && memcmp(begin.text, ELFMAG, SELFMAG) == 0)
                        elf_read(fd, &begin.header, program);
                close(fd);
                if (program->rc != -ENOEXEC || !script_follow(begin.text, next))
                        return;
                ivg_in_path_find(next, program->path);
        }
}

/* ---- the loader's own words ---- */

/* "libcuda.so.1 => PATH (0x...)" */
static bool list_find(const char *text, char found[PATH_MAX])
{
        const char *at = strstr(text, "libcuda.so.1 => ");

        found[0] = '\0';
        if (at) {
                at += strlen("libcuda.so.1 => ");
                snprintf(found, PATH_MAX, "%.*s", (int)strcspn(at, " \n"), at);
        }
        return strchr(found, '/') != NULL; /* not "not found" */
}

/* Which rule led there: what the loader says it searches, last before the file it took (LD_DEBUG=libs). */
static void rule_find(const char *text, const char *found, char rule[200])
{
        const char *line = strstr(text, "find library=libcuda.so.1"), *end;

        snprintf(rule, 200, "the loader's order");
        for (; line && *line; line = *end ? end + 1 : end) {
                const char *at;

                end = strchrnul(line, '\n');
                if ((at = memmem(line, (size_t)(end - line), "trying file=", 12)) != NULL) {
                        at += 12;
                        if ((size_t)(end - at) == strlen(found) && memcmp(at, found, (size_t)(end - at)) == 0)
                                return;
                } else if ((at = memmem(line, (size_t)(end - line), "search cache=", 13)) != NULL) {
                        snprintf(rule, 200, "%.*s", (int)(end - at) - 13, at + 13);
                } else if (memmem(line, (size_t)(end - line), "search path=", 12) &&
                           (at = memrchr(line, '(', (size_t)(end - line))) != NULL) {
                        snprintf(rule, 200, "%.*s", (int)(end - at) - 2, at + 1);
                }
        }
}

static void folder_of_ours(const struct ivg_doctor *doctor, char folder[PATH_MAX])
{
        char shim[IVG_DRIVER_PATH_BYTES];

        if (doctor->shim)
                snprintf(folder, PATH_MAX, "%s", doctor->shim);
        else if (ivg_path_beside_program("../lib/ivgpu/libcuda.so.1", shim) == 0)
                snprintf(folder, PATH_MAX, "%s", shim);
        else
                snprintf(folder, PATH_MAX, SHIM_FOLDER_STANDARD "/libcuda.so.1");
        *strrchr(folder, '/') = '\0';
}

static void another_conclude(struct ivg_doctor *doctor, const char *found, const char *rule, const char *object)
{
        char folder[PATH_MAX];
        const char *from = strstr(rule, "from file ");

        folder_of_ours(doctor, folder);
        ivg_seen(doctor, "gets %s, by %s: not ivgpu's", found, rule);
        if (strncmp(rule, "RPATH", 5) == 0)
                ivg_remedy(doctor,
                           "that comes before everything: patchelf --remove-rpath %s, or put a link to "
                           "%s/libcuda.so.1 in its place",
                           from ? from + 10 : object, folder);
        else if (strncmp(rule, "LD_LIBRARY_PATH", 15) == 0)
                ivg_remedy(doctor, "put %s first: export LD_LIBRARY_PATH=%s:$LD_LIBRARY_PATH", folder, folder);
        else if (strncmp(rule, "RUNPATH", 7) == 0)
                ivg_remedy(doctor, "LD_LIBRARY_PATH comes before it: export LD_LIBRARY_PATH=%s", folder);
        else
                ivg_remedy(doctor,
                           "a guest needs no other driver: remove the package that brings it (dpkg -S %s); or: export "
                           "LD_LIBRARY_PATH=%s",
                           found, folder);
        ivg_conclude(doctor, IVG_BAD, "libcuda-of-another", object);
}

void ivg_check_loader(struct ivg_doctor *doctor)
{
        static struct ivg_child child;
        struct program program = {.rc = 0};
        char preload[] = "--preload", name[] = "libcuda.so.1", list[] = "--list", debug[] = "LD_DEBUG=libs";
        char *arguments[] = {program.loader, preload, name, list, program.path, NULL};
        char *const variables[] = {debug, NULL};
        char found[PATH_MAX], folder[PATH_MAX], rule[200], itself[PATH_MAX] = "";
        const char *object = doctor->program ? doctor->program : "any program";

        /* Without one: this one, by its own name, since a loader's /proc/self/exe is the loader. */
        if (!doctor->program && readlink("/proc/self/exe", itself, sizeof(itself) - 1) < 0)
                snprintf(itself, sizeof(itself), "/bin/true");
        program_read(doctor->program ? doctor->program : itself, &program);
        if (program.rc < 0) {
                ivg_seen(doctor, "%s",
                         program.rc == -ENOEXEC   ? "is no program"
                         : program.rc == -ELIBBAD ? "is no program for x86-64: ivgpu has no library for it"
                                                  : strerror(-program.rc));
                ivg_remedy(doctor, "name an x86-64 program or a script of one: --program FILE");
                ivg_conclude(doctor, IVG_BAD, "program-unusable", object);
                return;
        }
        if (program.loader[0] == '\0') {
                ivg_seen(doctor, "is linked statically: what it opens itself is not to be seen from outside");
                ivg_conclude(doctor, IVG_UNKNOWN, NULL, object);
                return;
        }
        ivg_child_program(arguments, variables, IVG_DOCTOR_PROGRAM_MS, &child);
        if (!list_find(child.output, found)) {
                folder_of_ours(doctor, folder);
                ivg_seen(doctor, "finds no libcuda.so.1");
                ivg_remedy(doctor, "echo %s > /etc/ld.so.conf.d/zz-ivgpu.conf; ldconfig; or: export LD_LIBRARY_PATH=%s",
                           folder, folder);
                ivg_conclude(doctor, IVG_BAD, "libcuda-absent", object);
                return;
        }
        rule_find(child.output, found, rule);
        if (!ivg_driver_is_shim(found)) {
                another_conclude(doctor, found, rule, object);
                return;
        }
        snprintf(doctor->shim_found, sizeof(doctor->shim_found), "%s", found);
        ivg_seen(doctor, "gets ivgpu's %s, by %s", found, rule);
        ivg_conclude(doctor, IVG_OK, NULL, object);
}

/* ---- of which build ---- */

static bool mark_read(const char *path, char mark[IVG_BUILD_MARK_BYTES])
{
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat status;
        void *file = MAP_FAILED;
        const char *at = NULL;

        if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
                file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED) {
                at = memmem(file, (size_t)status.st_size, IVG_BUILD_MARK_BEGIN, strlen(IVG_BUILD_MARK_BEGIN));
                if (at) {
                        const size_t left = (size_t)((const char *)file + status.st_size - at);

                        snprintf(mark, IVG_BUILD_MARK_BYTES, "%.*s", (int)strnlen(at, left), at);
                }
                munmap(file, (size_t)status.st_size);
        }
        if (fd >= 0)
                close(fd);
        return at != NULL;
}

void ivg_check_shim(struct ivg_doctor *doctor)
{
        static const char ours[] = IVG_BUILD_MARK;
        char path[PATH_MAX], mark[IVG_BUILD_MARK_BYTES];

        if (doctor->shim_found[0] != '\0' && !doctor->shim) {
                snprintf(path, sizeof(path), "%s", doctor->shim_found);
        } else {
                folder_of_ours(doctor, path);
                strncat(path, "/libcuda.so.1", sizeof(path) - strlen(path) - 1);
        }
        if (access(path, R_OK) < 0) {
                ivg_seen(doctor, "%s: %s", path, strerror(errno));
                ivg_remedy(doctor, "install ivgpu-guest, or name ivgpu's libcuda.so.1: --shim FILE");
                ivg_conclude(doctor, IVG_BAD, "shim-absent", "");
        } else if (!mark_read(path, mark)) {
                ivg_seen(doctor, "%s is not ivgpu's, or older than this program", path);
                ivg_remedy(doctor, "install one version of all of ivgpu");
                ivg_conclude(doctor, IVG_BAD, "shim-of-another-build", "");
        } else if (strcmp(mark, ours) != 0) {
                ivg_seen(doctor, "%s says \"%s\", this program \"%s\"", path, mark + strlen(IVG_BUILD_MARK_BEGIN),
                         ours + strlen(IVG_BUILD_MARK_BEGIN));
                ivg_remedy(doctor,
                           "install one version of ivgpu in the guest, the host's: guest and host must have the same "
                           "calls and layout");
                ivg_conclude(doctor, IVG_BAD, "shim-of-another-build", "");
        } else {
                ivg_seen(doctor, "%s, %s", path, ours + strlen(IVG_BUILD_MARK_BEGIN));
                ivg_conclude(doctor, IVG_OK, NULL, "");
        }
}
