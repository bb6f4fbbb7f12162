/*
 * Checkpoints of a training run: who holds what of named float32 tensors is written to a folder
 * with a file per rank, between updates and beside them, and read again by ranks that hold it
 * otherwise. Nothing here knows what the tensors are for.
 *
 * DIR/step-N/ has rank-R.bin, what rank R wrote, and manifest.json, written last: a folder without
 * it is none. DIR is one run's: what was saved after the step that a run is resumed from goes when
 * it completes its next checkpoint. DIR should be shared by all hosts; where it is not, each rank
 * finds what it wrote itself and can be resumed on the same layout only.
 */
#pragma once

#include "comm/agree.h"
#include "parallel/plan/layout.h"
#include "runtime/base/json.h"

enum { AG_SAVED_NAME_BYTES = 128, AG_MOST_KEPT = 64 };

/* A rectangle of a tensor that a rank holds. */
typedef struct ag_saved_slice {
    ag_range_t rows, cols; /* of the whole tensor; both empty where nothing is held */
    float *data;           /* (rows, cols) of the slice; borrowed */
    uint64_t stride;       /* floats from row to row, at least cols */
} ag_saved_slice_t;

/* A named tensor, and what this rank holds of it; other ranks may hold the same, or nothing. */
typedef struct ag_saved_tensor {
    const char *name;    /* unique; ASCII, below AG_SAVED_NAME_BYTES; borrowed, as all here */
    uint64_t rows, cols; /* of the whole; a vector is one row; experts are rows behind each other */
    uint32_t n_slices;   /* that this rank holds, disjoint; 0: it need not be listed at all */
    const ag_saved_slice_t *slices; /* (n_slices) */
} ag_saved_tensor_t;

enum { AG_FLAT_SLICES = 3 };

/**
 * Elements [begin, end) of a rectangle, counted row by row, as slices (optimizer state is shared
 * out so): a first row that is cut, whole rows, a last row that is cut.
 * @param data    the elements, one behind the other; element `flat.begin` first.
 * @param slices  out: those that are not empty.
 * @return their number.
 */
uint32_t ag_flat_slices(ag_range_t rows, ag_range_t cols, ag_range_t flat, float *data,
                        ag_saved_slice_t slices[AG_FLAT_SLICES]);

/* ---- writing ---- */

typedef struct ag_saver ag_saver_t;

typedef struct ag_saver_opts {
    const char *dir;       /* "OUT/checkpoints"; made where it is not there; copied */
    const char *spec_hash; /* of the model; copied */
    uint64_t from_step;    /* that the training state is of: 0 for a new run, what was resumed */
    uint32_t keep;         /* complete checkpoints that stay; 0 = 2, at most AG_MOST_KEPT */
    /*
     * Memory for copies of what is to be overwritten before it is written; 0 = as much as this rank
     * writes, taken at once. With less, taken when it is needed beside ag_saver_least_bytes(), an
     * update waits for the disk: 1 is right for a run that saves at its end alone.
     */
    uint64_t snapshot_bytes;
    /* No thread: ag_saver_test() writes a piece a call. For clusters simulated on one thread. */
    bool is_stepped;
    /** For tests: asked before each change on the disk; 0, or the errno to fail with. May be NULL.
     */
    int (*fault)(void *arg, const char *path);
    void *fault_arg;
} ag_saver_opts_t;

/**
 * All ranks together, blocking: agree on who holds what, choose who writes what (what several hold
 * is written once, spread evenly), and remove what incomplete checkpoints have left.
 * @param net      borrowed until ag_saver_destroy(); from the thread that makes all calls here.
 * @param idle     as for ag_agree(); copied.
 * @param tensors  (n_tensors); copied, the data of the slices borrowed.
 * @return the same on all ranks: AG_OK; AG_ERR_INVALID: a slice outside its tensor, tensors that
 *         differ between ranks, a part that nobody holds; AG_ERR_IO; AG_ERR_NOMEM; AG_ERR_PEER.
 */
ag_status_t ag_saver_create(ag_net_t *net, const ag_idle_t *idle, const ag_saver_opts_t *opts,
                            const ag_saved_tensor_t *tensors, size_t n_tensors,
                            ag_saver_t **saver_p);

/** A checkpoint under way is given up; its net must be at its end then. NULL is allowed. */
void ag_saver_destroy(ag_saver_t *saver);

/** Memory that a saver takes where it has no room for copies. */
uint64_t ag_saver_least_bytes(void);

/** Memory that this rank's copies and buffers take at most. */
uint64_t ag_saver_bytes(const ag_saver_t *saver);

/**
 * Begin a checkpoint of the data as it is now; returns at once. On all ranks, none under way.
 * @param state  rank 0's is kept in the manifest: an object; others' may be NULL. Taken over.
 * @return AG_OK; AG_ERR_NOMEM, AG_ERR_PEER. What fails later is told by ag_saver_test().
 */
ag_status_t ag_saver_begin(ag_saver_t *saver, uint64_t step, ag_json_t *state);

/**
 * To be called before anything in [data, data + n) is overwritten: what is still needed of it is
 * copied. Waits for the disk only where the memory for copies is full. From any threads at once
 * (not where is_stepped), on disjoint or common ranges; costs next to nothing while no checkpoint
 * is under way. `saver` may be NULL.
 */
void ag_saver_before_write(ag_saver_t *saver, const float *data, uint64_t n);

/**
 * Is the checkpoint complete on all ranks? Never waits. To be called now and then until it is no
 * longer under way (it moves messages on), each rank when it likes.
 * @return AG_PENDING; AG_OK: complete, or none was begun; else the same on all ranks, once: no
 *         checkpoint was made (disk full: AG_ERR_IO), what was there before is still there, and the
 *         next can be begun; AG_ERR_PEER: the job is broken.
 */
ag_status_t ag_saver_test(ag_saver_t *saver);

/** All ranks: test until it is no longer under way. */
ag_status_t ag_saver_wait(ag_saver_t *saver);

/** The step of the last complete checkpoint that this run has made or was resumed from; 0: none. */
uint64_t ag_saver_last_step(const ag_saver_t *saver);

/** The same in words, which a failure ends with: "the last complete checkpoint is of step 8". */
void ag_saver_tell_last(const ag_saver_t *saver, char *text, size_t n_bytes);

/* ---- reading ---- */

typedef struct ag_checkpoint ag_checkpoint_t;

#define AG_STEP_LAST UINT64_MAX

/**
 * Open a checkpoint; no tensor is read yet.
 * @param dir   "OUT/checkpoints".
 * @param step  AG_STEP_LAST: the last complete one; those that are damaged before any of their
 *              tensors is read (a file cut off) are passed over with a warning.
 * @return AG_OK; AG_ERR_IO: there is none; AG_ERR_FORMAT: half-written or damaged;
 *         AG_ERR_UNSUPPORTED: of a newer version; AG_ERR_NOMEM.
 */
ag_status_t ag_checkpoint_open(const char *dir, uint64_t step, ag_checkpoint_t **checkpoint_p);

/**
 * The same on all ranks together: rank 0 chooses, and all have its manifest or its error. By
 * AG_STEP_LAST a checkpoint of which no rank has one of the files is passed over, too.
 */
ag_status_t ag_checkpoint_open_together(ag_net_t *net, const ag_idle_t *idle, const char *dir,
                                        uint64_t step, ag_checkpoint_t **checkpoint_p);

void ag_checkpoint_close(ag_checkpoint_t *checkpoint); /* NULL is allowed */

const char *ag_checkpoint_folder(const ag_checkpoint_t *checkpoint); /* "OUT/checkpoints/step-8" */
uint64_t ag_checkpoint_step(const ag_checkpoint_t *checkpoint);
const char *ag_checkpoint_spec_hash(const ag_checkpoint_t *checkpoint);
const ag_json_t *ag_checkpoint_state(const ag_checkpoint_t *checkpoint); /* an object; borrowed */

/* A tensor of a checkpoint. */
typedef struct ag_stored_tensor {
    const char *name;
    uint64_t rows, cols;
} ag_stored_tensor_t;

/** Sorted by name. */
const ag_stored_tensor_t *ag_checkpoint_tensors(const ag_checkpoint_t *checkpoint,
                                                size_t *n_tensors_p);

/**
 * @param tensors  (n_tensors) all of the model, of which the error names one that differs.
 * @return AG_OK; AG_ERR_INVALID: it is of a model with another hash.
 */
ag_status_t ag_checkpoint_check_model(const ag_checkpoint_t *checkpoint, const char *spec_hash,
                                      const ag_saved_tensor_t *tensors, size_t n_tensors);

/**
 * Fill the slices of tensors. Reads what they need and no more (in pieces of up to 4 MiB), each
 * piece held against its checksum. This rank's alone: let all agree on the status.
 * @return AG_OK; AG_ERR_INVALID: no such tensor, or of another shape; AG_ERR_IO: a file is missing
 *         or cannot be read; AG_ERR_FORMAT: a file is damaged, and what it should have filled is
 *         undefined; AG_ERR_NOMEM.
 */
ag_status_t ag_checkpoint_load(ag_checkpoint_t *checkpoint, const ag_saved_tensor_t *tensors,
                               size_t n_tensors);

/**
 * Read some rows of one tensor. Best many at a time: each call reads whole pieces.
 * @param tensor  its index in ag_checkpoint_tensors().
 * @param dst     out: (rows, cols of the tensor).
 */
ag_status_t ag_checkpoint_read_rows(ag_checkpoint_t *checkpoint, size_t tensor, ag_range_t rows,
                                    float *dst);
