/*
 * How a weight is held in memory. Files hold rows of encoded blocks; kernels that read a weight at
 * the memory's rate want other orders. A packing is independent of the instruction set and loses
 * nothing: what it unpacks to are the bits that the file's encoding gives.
 */
#pragma once

#include "runtime/tensor/dtype.h"

typedef enum ag_packing {
    AG_PACKING_ROWS, /* as in the file: rows of blocks */
    AG_PACKING_R16,  /* 16 rows side by side, so that a lane of a vector belongs to a row */
    AG_N_PACKINGS,
} ag_packing_t;

/* The most rows of a group. */
enum { AG_PACKING_MAX_ROWS = 16 };

typedef struct ag_packing_info {
    const char *name;
    uint32_t group_rows; /* packed together; groups follow one another */
    uint32_t share_rows; /* by so many LINEAR shares a weight out to threads: whole groups */
    bool (*can)(ag_dtype_t dtype, uint64_t cols);
    /** Bytes of a group; cols are whole blocks of the type. */
    uint64_t (*group_bytes)(ag_dtype_t dtype, uint64_t cols);
    /**
     * Pack one group.
     * @param rows  (group_rows) rows in the file's encoding; NULL: a row of zeros, past the last.
     */
    void (*pack)(ag_dtype_t dtype, const unsigned char *const *rows, uint64_t cols,
                 unsigned char *group);
    /** Decode row `row` of a group to cols floats: the bits that the type's own unpack gives. */
    void (*unpack)(ag_dtype_t dtype, const unsigned char *group, uint64_t cols, uint32_t row,
                   float *dst);
} ag_packing_info_t;

/** The packing's row; packing must be valid. */
const ag_packing_info_t *ag_packing_info(ag_packing_t packing);

/** The best packing for a weight that LINEAR multiplies by. */
ag_packing_t ag_packing_choose(ag_dtype_t dtype, uint64_t cols);

/** Bytes of a weight (rows, cols). */
uint64_t ag_packing_bytes(ag_packing_t packing, ag_dtype_t dtype, uint64_t rows, uint64_t cols);

/** Decode row `row` of a weight (rows, cols) to cols floats. */
void ag_packing_unpack_row(ag_packing_t packing, ag_dtype_t dtype, const void *weight,
                           uint64_t cols, uint64_t row, float *dst);
