/* The weights that one rank holds: slices of the model's tensors, each held once. */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/team.h"
#include "runtime/device/device.h"
#include "runtime/model/model.h"
#include "runtime/model/turned.h"

typedef struct ag_param {
    const ag_model_tensor_t *tensor;
    ag_transform_t transform;
    uint32_t head_dim;             /* of the transform */
    uint64_t row_elements;         /* of the tensor, as rows are counted here */
    uint64_t turns;                /* of ag_place_in_file_t */
    uint64_t row_begin, col_begin; /* of the slice, in the tensor */
    ag_head_rows_t heads;          /* of the tensor */
    uint64_t turned_rows;  /* of a head of the slice, whose transpose stands in the tensor, of which
                              it has all columns; 0: heads stand there as they are held */
    bool is_column;        /* a vector whose elements are rows of one column */
    bool grads_are_parts;  /* training: of ranks that hold the same, each has a part of a sum */
    bool spans_replicas;   /* training: those may be of any replica */
    bool is_common;        /* training: those are ranks of a stage */
    uint64_t offset_bytes; /* in the rank's weight region */
    /* training: where its gradient is */
    uint32_t grad_buffer; /* of the program */
    uint64_t grad_begin_bytes;
} ag_param_t;

typedef struct ag_params {
    ag_array_t items; /* ag_param_t */
    ag_array_t held;  /* ag_graph_param_t, same index */
    uint64_t bytes;   /* of the region that holds them all */
    bool exact;       /* held as float32 */
} ag_params_t;

void ag_params_init(ag_params_t *params, bool exact);
void ag_params_fini(ag_params_t *params);

static inline const ag_graph_param_t *ag_params_held(const ag_params_t *params)
{
    return AG_ITEMS(&params->held, ag_graph_param_t);
}

/* A slice of a tensor whose whole shape is (rows, cols); a vector has rows 0. */
typedef struct ag_slice {
    uint64_t rows, cols;
    uint64_t row_begin, row_end, col_begin, col_end;
    uint32_t expert;   /* whose it is; 0 where there are none */
    uint32_t n_turned; /* so many heads' transposes are asked for, of a weight whose tensor begins
                          with it; the whole shape is theirs, (heads * cols, rows of a head). 0: the
                          weight as it is */
    bool is_looked_up; /* rows of it are taken: no linear layer multiplies by it, or another asks */
    bool grads_are_parts; /* training: ranks that hold the same rows use them for other work each */
    bool
        spans_replicas; /* training: these ranks may be of any replica; else each replica has all */
    bool is_common;     /* training: other ranks of the stage have some of it */
} ag_slice_t;

/**
 * Ask for a slice; a slice that is already asked for is given again (tied embeddings). Offsets of
 * slices and params->bytes hold once all have been asked for.
 * @return AG_OK; AG_ERR_FORMAT: the tensor is missing or has another shape (named, with both);
 *         AG_ERR_UNSUPPORTED: the slice would cut through a block of the weight's encoding.
 */
ag_status_t ag_params_add(ag_params_t *params, const ag_model_t *model, ag_role_t role,
                          uint32_t layer, const ag_slice_t *slice, int32_t *param_p);

/**
 * Read every slice into base (params->bytes), reading no byte that is not held but for the parts of
 * an encoding block or of a head, pack it, and set the params' data. Every thread of the team reads
 * and writes what LINEAR will give it; base holds the same bytes for any number of them.
 * @param cancel  looked at between pieces; may be NULL.
 * @param device  whose memory base is: where the host may not touch it, packed pieces are copied,
 *                by stream 0.
 * @param base  64-byte aligned; not touched yet, so that its pages lie with the threads.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_IO: of the thread that failed first, the others stop;
 *         AG_ERR_INTERRUPTED; what copying returns.
 */
ag_status_t ag_params_load(ag_params_t *params, const ag_model_t *model, ag_team_t *team,
                           const ag_cancel_t *cancel, ag_device_t *device, unsigned char *base);

/** Bytes of the buffers that ag_params_load() takes besides. @param staged  pieces are copied. */
uint64_t ag_params_load_bytes(const ag_params_t *params, unsigned n_threads, bool staged);
