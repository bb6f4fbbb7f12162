#define _GNU_SOURCE /* memfd_create */

#include "memory_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/status.h"

int memory_file(const uint8_t *bytes, size_t n_bytes, char path[MEMORY_PATH_BYTES])
{
    int fd = memfd_create("argosy-fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, bytes, n_bytes) != (ssize_t)n_bytes) {
        perror("making a file in memory");
        abort();
    }
    snprintf(path, MEMORY_PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

void write_file(const char *folder, const char *name, const void *bytes, size_t n_bytes)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    expect(fd >= 0 && write(fd, bytes, n_bytes) == (ssize_t)n_bytes);
    close(fd);
}

void expect(bool held)
{
    if (!held) {
        abort();
    }
}

void expect_one_line(void)
{
    for (const char *at = ag_error(); *at != '\0'; at++) {
        expect((unsigned char)*at >= ' ');
    }
}
