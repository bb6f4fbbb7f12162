#include "runtime/file/npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file/aside.h"
#include "runtime/file/npy_priv.h"

enum { MAX_START_BYTES = 256 };

struct ag_npy_writer {
    ag_aside_t *aside;
    char *path; /* for errors */
    uint64_t n_rows;
    uint64_t n_cols;
    uint64_t n_written;
};

static void free_writer(ag_npy_writer_t *writer)
{
    free(writer->path);
    free(writer);
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
    if (fwrite(start, 1, n_bytes, ag_aside_stream(writer->aside)) != n_bytes) {
        return ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
    }
    return AG_OK;
}

ag_status_t ag_npy_writer_open(const char *path, uint64_t n_rows, uint64_t n_cols,
                               ag_npy_writer_t **writer_p)
{
    ag_npy_writer_t *writer;
    uint64_t n_bytes;
    ag_status_t status;

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
    status = writer->path == NULL ? ag_fail_nomem(path, strlen(path) + 1)
                                  : ag_aside_open(path, &writer->aside);
    if (status != AG_OK) {
        free_writer(writer);
        return status;
    }
    status = write_start(writer);
    if (status != AG_OK) {
        ag_npy_writer_discard(writer);
        return status;
    }
    *writer_p = writer;
    return AG_OK;
}

ag_status_t ag_npy_writer_rows(ag_npy_writer_t *writer, const float *rows, uint64_t n_rows)
{
    uint64_t n;

    if (n_rows > writer->n_rows - writer->n_written) {
        return ag_fail(AG_ERR_INVALID, "writing %s: more than the %llu rows it was opened for",
                       writer->path, (unsigned long long)writer->n_rows);
    }
    n = n_rows * writer->n_cols; /* at most the product that was checked at the start */
    if (n > 0 && fwrite(rows, sizeof(*rows), n, ag_aside_stream(writer->aside)) != n) {
        return ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
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
    status = ag_aside_complete(writer->aside);
    free_writer(writer);
    return status;
}

void ag_npy_writer_discard(ag_npy_writer_t *writer)
{
    if (writer == NULL) {
        return;
    }
    ag_aside_discard(writer->aside);
    free_writer(writer);
}
