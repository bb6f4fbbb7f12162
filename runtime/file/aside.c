#define _GNU_SOURCE
#include "runtime/file/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 * 1024, SUFFIX_BYTES = 48, MOST_NAMES = 1000 };

struct ag_aside {
    char *path;
    char *aside_path; /* beside the target, so that the rename stays on one file system */
    FILE *stream;     /* NULL: sealed */
};

static void free_aside(ag_aside_t *aside)
{
    free(aside->path);
    free(aside->aside_path);
    free(aside);
}

/* A rename would put a file in the place of /dev/null or of a pipe. */
static ag_status_t check_target(const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_INVALID, "writing %s: it exists and is not a regular file", path);
}

/* Under a name that nobody has: several may write the same file at once, from one process, or from
 * hosts where processes have the same number. */
static ag_status_t open_stream(ag_aside_t *aside, size_t n_aside)
{
    int fd = -1;

    for (int i = 0; i == 0 || (fd < 0 && errno == EEXIST && i < MOST_NAMES); i++) {
        snprintf(aside->aside_path, n_aside, "%s.tmp.%ld.%d", aside->path, (long)getpid(), i);
        fd = open(aside->aside_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (fd < 0) {
        return ag_fail(AG_ERR_IO, "creating %s: %s", aside->aside_path, strerror(errno));
    }
    aside->stream = fdopen(fd, "wb");
    if (aside->stream == NULL) {
        close(fd);
        unlink(aside->aside_path);
        return ag_fail_nomem(aside->path, BUFFER_BYTES);
    }
    setvbuf(aside->stream, NULL, _IOFBF, BUFFER_BYTES);
    return AG_OK;
}

ag_status_t ag_aside_open(const char *path, ag_aside_t **aside_p)
{
    size_t n_aside = strlen(path) + SUFFIX_BYTES;
    ag_aside_t *aside;
    ag_status_t status = check_target(path);

    if (status != AG_OK) {
        return status;
    }
    aside = calloc(1, sizeof(*aside));
    if (aside == NULL) {
        return ag_fail_nomem(path, sizeof(*aside));
    }
    aside->path = strdup(path);
    aside->aside_path = malloc(n_aside);
    if (aside->path == NULL || aside->aside_path == NULL) {
        status = ag_fail_nomem(path, n_aside);
        goto free_aside;
    }
    status = open_stream(aside, n_aside);
    if (status != AG_OK) {
        goto free_aside;
    }
    *aside_p = aside;
    return AG_OK;

free_aside:
    free_aside(aside);
    return status;
}

FILE *ag_aside_stream(ag_aside_t *aside)
{
    return aside->stream;
}

static ag_status_t fail_writing(const ag_aside_t *aside)
{
    return ag_fail(AG_ERR_IO, "writing %s: %s", aside->aside_path, strerror(errno));
}

ag_status_t ag_aside_write(ag_aside_t *aside, const void *bytes, size_t n)
{
    return n == 0 || fwrite(bytes, 1, n, aside->stream) == n ? AG_OK : fail_writing(aside);
}

ag_status_t ag_aside_reserve(ag_aside_t *aside, uint64_t n_bytes)
{
    if (n_bytes > 0 && fallocate(fileno(aside->stream), 0, 0, (off_t)n_bytes) != 0 &&
        (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
        return ag_fail(AG_ERR_IO, "writing %s, which takes %llu bytes: %s", aside->path,
                       (unsigned long long)n_bytes, strerror(errno));
    }
    return AG_OK;
}

ag_status_t ag_aside_seal(ag_aside_t *aside)
{
    FILE *stream = aside->stream;

    /* A write that failed earlier may have left half a row behind, whatever followed it. */
    if (ferror(stream) || fflush(stream) != 0 || fsync(fileno(stream)) != 0) {
        return fail_writing(aside);
    }
    aside->stream = NULL;
    return fclose(stream) == 0 ? AG_OK : fail_writing(aside);
}

ag_status_t ag_aside_complete(ag_aside_t *aside)
{
    ag_status_t status = aside->stream != NULL ? ag_aside_seal(aside) : AG_OK;

    if (status == AG_OK && rename(aside->aside_path, aside->path) != 0) {
        status = ag_fail(AG_ERR_IO, "completing %s: %s", aside->path, strerror(errno));
    }
    if (status != AG_OK) {
        ag_aside_discard(aside);
        return status;
    }
    free_aside(aside);
    return AG_OK;
}

void ag_aside_discard(ag_aside_t *aside)
{
    if (aside == NULL) {
        return;
    }
    if (aside->stream != NULL) {
        fclose(aside->stream);
    }
    unlink(aside->aside_path);
    free_aside(aside);
}
