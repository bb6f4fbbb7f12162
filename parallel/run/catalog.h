/*
 * The model's tensors by the names that Hugging Face folders have, and what of each the ranks of a
 * job that trains hold: for checkpoints, and to bring tensors to rank 0 a few rows at a time.
 */
#pragma once

#include "parallel/run/checkpoint.h"
#include "parallel/run/job.h"
#include "runtime/model/export.h"

/* What there is of each element. */
typedef enum ag_state_kind {
    AG_STATE_WEIGHT,
    AG_STATE_MOMENT_1,
    AG_STATE_MOMENT_2,
    AG_STATE_GRADIENT, /* of the last step, before clipping */
    AG_N_STATE_KINDS,
} ag_state_kind_t;

typedef struct ag_catalog ag_catalog_t;

/* A tensor of the model. */
typedef struct ag_catalog_tensor {
    char name[AG_TENSOR_NAME_BYTES];
    ag_weight_t weight;
    uint64_t rows, cols; /* a vector is one row */
} ag_catalog_tensor_t;

/** @param job  borrowed. @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: a tensor has no name. */
ag_status_t ag_catalog_create(ag_job_t *job, ag_catalog_t **catalog_p);
void ag_catalog_destroy(ag_catalog_t *catalog); /* NULL is allowed */

/**
 * What each rank writes of a checkpoint, as a saver would share it out, before any memory is taken.
 * @param build  with its programs; its ranks' saved_bytes are filled.
 */
ag_status_t ag_catalog_foretell(ag_build_t *build);

ag_job_t *ag_catalog_job(const ag_catalog_t *catalog);

/** In the order of ag_weights_list(); names are each weight's own (ag_weight_name()). */
const ag_catalog_tensor_t *ag_catalog_tensors(const ag_catalog_t *catalog, size_t *n_p);

/** What this rank holds of weights and both moments, in memory: for a saver, or to be filled from a
 * checkpoint. Moments are called as their weight, with ".exp_avg" and ".exp_avg_sq" behind it. */
const ag_saved_tensor_t *ag_catalog_saved(const ag_catalog_t *catalog, size_t *n_p);

/*
 * Between steps, all ranks together: rank 0 reads, the others serve until it ends. Every message
 * goes on the control channel; nothing but these calls may use it meanwhile.
 */

/**
 * Rank 0: rows [begin, begin + n) of a tensor.
 * @param rows  out: (n, cols)
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_PEER.
 */
ag_status_t ag_catalog_read(ag_catalog_t *catalog, ag_state_kind_t kind, size_t tensor,
                            uint64_t begin, uint64_t n, float *rows);

/** Rank 0: let the others go on. */
ag_status_t ag_catalog_end(ag_catalog_t *catalog);

/** Other ranks: send what rank 0 asks for. */
ag_status_t ag_catalog_serve(ag_catalog_t *catalog);

/** Rank 0: the weights as they are now, for an export. @return borrows the catalog. */
ag_weight_source_t ag_catalog_source(ag_catalog_t *catalog);

/** The same, gradients of the last step. */
ag_weight_source_t ag_catalog_gradients(ag_catalog_t *catalog);

/**
 * All ranks: the gradients of the last step as a safetensors file, on rank 0.
 * @param path  looked at on rank 0 alone.
 * @return the same on all ranks: AG_OK, AG_ERR_IO, AG_ERR_NOMEM, AG_ERR_PEER.
 */
ag_status_t ag_catalog_save_gradients(ag_catalog_t *catalog, const char *path);
