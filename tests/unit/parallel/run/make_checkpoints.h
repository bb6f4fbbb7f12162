/* Tensors laid out over ranks in any way, filled with numbers that say where they belong. */
#pragma once

#include "parallel/run/checkpoint_priv.h"
#include "turns.h"

enum { MOST_WORLD_TENSORS = 12, MOST_WORLD_RANKS = 7, WORLD_PATH_BYTES = 128 };

/* Ways to lay a tensor out over the ranks that hold it. */
typedef enum layout_kind {
    LAY_WHOLE, /* each holds all of it */
    LAY_ROWS,
    LAY_COLS,
    LAY_FLAT,         /* shares of its elements */
    LAY_FLAT_OF_COLS, /* each column share again shared out over two */
    LAY_OVERLAP,      /* rows, and some of the neighbours' */
    N_LAYOUT_KINDS,
} layout_kind_t;

/* Names and shapes, drawn from a seed. */
typedef struct world {
    char dir[WORLD_PATH_BYTES]; /* of the checkpoints */
    uint32_t n_tensors;
    char names[MOST_WORLD_TENSORS][32];
    uint64_t rows[MOST_WORLD_TENSORS], cols[MOST_WORLD_TENSORS];
} world_t;

/* What one rank holds. */
typedef struct holding {
    const world_t *world;
    ag_saved_tensor_t tensors[MOST_WORLD_TENSORS];
    ag_saved_slice_t slices[MOST_WORLD_TENSORS][AG_FLAT_SLICES];
    float *data[MOST_WORLD_TENSORS]; /* exactly as much as is held */
} holding_t;

/** Make a folder under /tmp, and the tensors. */
void open_world(uint64_t seed, world_t *world);
void close_world(const world_t *world);

/** How many tensors were laid out in each way so far, and how many ranks got nothing. */
extern uint32_t n_laid_out[N_LAYOUT_KINDS], n_empty_shares;

/** Lay the tensors out over ranks by a seed; the same on all ranks. */
void open_holding(const world_t *world, uint64_t seed, uint32_t n_ranks, uint32_t rank,
                  holding_t *holding);
void close_holding(holding_t *holding);

/** The number that stands at a place of a tensor at a time. */
float number_at(uint32_t tensor, uint64_t row, uint64_t col, uint64_t time);
void fill(const holding_t *holding, uint64_t time);
/** As an update does: tells the saver before it overwrites. */
void overwrite(const holding_t *holding, uint64_t time, ag_saver_t *saver);
/** @return how many numbers are others. */
uint64_t count_wrong(const holding_t *holding, uint64_t time);

/* A run that saves one checkpoint for each step; that of step i has the numbers of time i. */
typedef struct saving {
    const world_t *world;
    uint64_t layout_seed;
    uint64_t first_step; /* 0 = 1 */
    uint32_t n_steps;
    ag_saver_opts_t opts;     /* dir and spec_hash are filled in */
    bool trains;              /* numbers are overwritten while a checkpoint is under way */
    ag_status_t statuses[16]; /* out: (n_steps) rank 0's */
    char errors[16][AG_SAVE_ERROR_BYTES];
} saving_t;

/** A rank of it: turn->arg is the saving_t. */
ag_status_t save_rank(ag_turn_t *turn);

/** @return the same of all ranks: AG_OK, or why the saver could not be made. */
ag_status_t save_all(saving_t *saving, uint32_t n_ranks, uint64_t seed);

/** Load a checkpoint on other ranks. @param wrong_p  out: numbers that are not those of its step.
 * @param step_p  out. @param error  out: AG_SAVE_ERROR_BYTES; NULL: not wanted. */
ag_status_t load_all(const world_t *world, uint64_t layout_seed, uint32_t n_ranks, uint64_t step,
                     uint64_t *step_p, uint64_t *wrong_p, char *error);
