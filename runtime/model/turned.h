/* Weights of heads whose transposes stand in a file, or are asked for where the file has them as
 * they are: their elements change places, for which encoded ones are decoded. */
#pragma once

#include "runtime/file/model_files.h"
#include "runtime/model/transform.h"

typedef struct ag_turned {
    const ag_model_tensor_t *tensor; /* (heads * n_cols, head_rows) as its rows are counted */
    ag_head_rows_t heads;            /* of the tensor */
    uint64_t head_rows, n_cols;      /* of a head, as it is asked for */
} ag_turned_t;

/** The type that elements come in, that of the tensor or one that holds what it decodes to. */
ag_dtype_t ag_turned_dtype(const ag_model_tensor_t *tensor, bool exact);

/** Bytes that reading takes. */
uint64_t ag_turned_room_bytes(const ag_turned_t *turned);

/**
 * Rows [begin, begin + n) of (heads * head_rows, n_cols). Whole rows of the tensor are read for
 * them: n_cols for each head that they are of.
 * @param dtype  of the rows: plain.
 * @param room   ag_turned_room_bytes(), 64-byte aligned.
 * @param rows   out: (n, n_cols).
 * @return AG_OK, AG_ERR_IO.
 */
ag_status_t ag_turned_read(const ag_model_files_t *files, const ag_turned_t *turned,
                           ag_dtype_t dtype, uint64_t begin, uint64_t n, unsigned char *room,
                           unsigned char *rows);
