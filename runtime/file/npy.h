/* NumPy's .npy, versions 1 and 2, C order, little endian (numpy.lib.format). */
#pragma once

#include "runtime/tensor/tensor.h"

/**
 * Read a one-dimensional array of token ids: int32, int64, uint16 or uint32.
 * @param ids_p  out: free() it.
 * @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT (also ids that do not fit int32).
 */
ag_status_t ag_npy_read_ids(const char *path, int32_t **ids_p, size_t *n_ids_p);

/* Such an array, read in parts as they are asked for. */
typedef struct ag_npy_ids ag_npy_ids_t;

/** Read the header. @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT, AG_ERR_NOMEM. */
ag_status_t ag_npy_ids_open(const char *path, ag_npy_ids_t **ids_p);
void ag_npy_ids_close(ag_npy_ids_t *ids); /* NULL is allowed */
uint64_t ag_npy_ids_count(const ag_npy_ids_t *ids);

/**
 * Read ids first .. first + n - 1, all of which the array must have; from any thread.
 * @param dst  out: (n)
 * @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT (ids that do not fit int32).
 */
ag_status_t ag_npy_ids_read(const ag_npy_ids_t *ids, uint64_t first, size_t n, int32_t *dst);

/** Read a float32 array. @param data_p  out: free() it. */
ag_status_t ag_npy_read_f32(const char *path, float **data_p, uint32_t *n_dims_p,
                            uint64_t dims[AG_MAX_DIMS]);

/* A float32 matrix (rows, cols) written row by row: aside, then renamed when complete. */
typedef struct ag_npy_writer ag_npy_writer_t;
ag_status_t ag_npy_writer_open(const char *path, uint64_t n_rows, uint64_t n_cols,
                               ag_npy_writer_t **writer_p);
ag_status_t ag_npy_writer_rows(ag_npy_writer_t *writer, const float *rows, uint64_t n_rows);
/** Flush, fsync, rename. Fails when fewer rows came than promised. The writer is gone either way.
 */
ag_status_t ag_npy_writer_close(ag_npy_writer_t *writer);
/** Give up: remove what was written. NULL is allowed. */
void ag_npy_writer_discard(ag_npy_writer_t *writer);
