#include "runtime/file/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file/npy_priv.h"

enum { MAX_START_BYTES = 256, BUFFER_BYTES = 256 * 1024, SUFFIX_BYTES = 32 };

struct ag_npy_writer {
    char *path;
    char *aside_path; /* beside the target, so that the rename stays on one file system */
    FILE *stream;
    uint64_t n_rows;
    uint64_t n_cols;
    uint64_t n_written;
};

static void free_writer(ag_npy_writer_t *writer)
{
    free(writer->path);
    free(writer->aside_path);
    free(writer);
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

static ag_status_t write_start(ag_npy_writer_t *writer)
{
    char start[MAX_START_BYTES];
    char dict[MAX_START_BYTES / 2];
    size_t fixed_bytes = AG_NPY_MAGIC_BYTES + 2 + sizeof(uint16_t);
    int n_dict = snprintf(dict, sizeof(dict),
                          "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                          (unsigned long long)writer->n_rows, (unsigned long long)writer->n_cols);
    size_t used_bytes = fixed_bytes + (size_t)n_dict + 1;
    size_t n_bytes = (used_bytes + AG_NPY_ALIGNMENT - 1) / AG_NPY_ALIGNMENT * AG_NPY_ALIGNMENT;
    uint16_t n_header = (uint16_t)(n_bytes - fixed_bytes);

    memset(start, ' ', sizeof(start));
    memcpy(start, AG_NPY_MAGIC "\x01\x00", AG_NPY_MAGIC_BYTES + 2);
    memcpy(start + AG_NPY_MAGIC_BYTES + 2, &n_header, sizeof(n_header));
    memcpy(start + fixed_bytes, dict, (size_t)n_dict);
    start[n_bytes - 1] = '\n';
    if (fwrite(start, 1, n_bytes, writer->stream) != n_bytes) {
        return ag_fail(AG_ERR_IO, "writing %s: %s", writer->aside_path, strerror(errno));
    }
    return AG_OK;
}

static ag_status_t open_aside(ag_npy_writer_t *writer)
{
    int fd = open(writer->aside_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0) {
        return ag_fail(AG_ERR_IO, "creating %s: %s", writer->aside_path, strerror(errno));
    }
    writer->stream = fdopen(fd, "wb");
    if (writer->stream == NULL) {
        close(fd);
        unlink(writer->aside_path);
        return ag_fail_nomem(writer->path, BUFFER_BYTES);
    }
    setvbuf(writer->stream, NULL, _IOFBF, BUFFER_BYTES);
    return AG_OK;
}

ag_status_t ag_npy_writer_open(const char *path, uint64_t n_rows, uint64_t n_cols,
                               ag_npy_writer_t **writer_p)
{
    size_t n_aside = strlen(path) + SUFFIX_BYTES;
    ag_npy_writer_t *writer;
    uint64_t n_bytes;
    ag_status_t status = check_target(path);

    if (status != AG_OK) {
        return status;
    }
    if (__builtin_mul_overflow(n_rows, n_cols, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, sizeof(float), &n_bytes)) {
        return ag_fail(AG_ERR_INVALID, "writing %s: %llu rows of %llu are too large for any file",
                       path, (unsigned long long)n_rows, (unsigned long long)n_cols);
    }
    writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return ag_fail_nomem(path, sizeof(*writer));
    }
    writer->n_rows = n_rows;
    writer->n_cols = n_cols;
    writer->path = strdup(path);
    writer->aside_path = malloc(n_aside);
    if (writer->path == NULL || writer->aside_path == NULL) {
        status = ag_fail_nomem(path, n_aside);
        goto free_writer;
    }
    snprintf(writer->aside_path, n_aside, "%s.tmp.%ld", path, (long)getpid());
    status = open_aside(writer);
    if (status != AG_OK) {
        goto free_writer;
    }
    status = write_start(writer);
    if (status != AG_OK) {
        ag_npy_writer_discard(writer);
        return status;
    }
    *writer_p = writer;
    return AG_OK;

free_writer:
    free_writer(writer);
    return status;
}

ag_status_t ag_npy_writer_rows(ag_npy_writer_t *writer, const float *rows, uint64_t n_rows)
{
    uint64_t n;

    if (n_rows > writer->n_rows - writer->n_written) {
        return ag_fail(AG_ERR_INVALID, "writing %s: more than the %llu rows it was opened for",
                       writer->path, (unsigned long long)writer->n_rows);
    }
    n = n_rows * writer->n_cols; /* at most the product that was checked at the start */
    if (n > 0 && fwrite(rows, sizeof(*rows), n, writer->stream) != n) {
        return ag_fail(AG_ERR_IO, "writing %s: %s", writer->aside_path, strerror(errno));
    }
    writer->n_written += n_rows;
    return AG_OK;
}

ag_status_t ag_npy_writer_close(ag_npy_writer_t *writer)
{
    ag_status_t status = AG_OK;

    if (writer->n_written != writer->n_rows) {
        status = ag_fail(AG_ERR_INVALID, "writing %s: %llu of %llu rows were written", writer->path,
                         (unsigned long long)writer->n_written, (unsigned long long)writer->n_rows);
        ag_npy_writer_discard(writer);
        return status;
    }
    /* A write that failed earlier may have left half a row behind, whatever followed it. */
    if (ferror(writer->stream) || fflush(writer->stream) != 0 ||
        fsync(fileno(writer->stream)) != 0) {
        status = ag_fail(AG_ERR_IO, "writing %s: %s", writer->aside_path, strerror(errno));
        ag_npy_writer_discard(writer);
        return status;
    }
    if (fclose(writer->stream) != 0 || rename(writer->aside_path, writer->path) != 0) {
        status = ag_fail(AG_ERR_IO, "completing %s: %s", writer->path, strerror(errno));
        unlink(writer->aside_path);
    }
    free_writer(writer);
    return status;
}

void ag_npy_writer_discard(ag_npy_writer_t *writer)
{
    if (writer == NULL) {
        return;
    }
    fclose(writer->stream);
    unlink(writer->aside_path);
    free_writer(writer);
}
