/* An opened model: files, spec, names; and what of it one rank holds. */
#pragma once

#include "runtime/mem/region.h"
#include "runtime/model/family.h"

typedef struct ag_model {
    ag_model_files_t *files;
    ag_spec_t *spec;
    const ag_family_t *family;
} ag_model_t;

/** Open a GGUF file or a folder: headers and settings only. @return as the parts do. */
ag_status_t ag_model_open(const char *path, ag_model_t **model_p);
void ag_model_close(ag_model_t *model); /* NULL is allowed */

/* Smallest pieces that a layer kind can be cut into: whole blocks of the weights cut along k. */
typedef struct ag_model_units {
    uint32_t heads;
    uint32_t ffn_columns;
    uint32_t shared_columns; /* of the shared expert */
    uint32_t vocab;
} ag_model_units_t;

ag_status_t ag_model_units(const ag_model_t *model, uint32_t layer_kind, ag_model_units_t *units_p);

/* One rank's part of every layer of a kind. */
typedef struct ag_layer_shard {
    uint32_t head_begin, head_end;     /* query heads */
    uint32_t kv_begin, kv_end;         /* the key-value heads these use, replicated where shared */
    uint32_t ffn_begin, ffn_end;       /* feed-forward columns */
    uint32_t shared_begin, shared_end; /* the shared expert's, which all ranks of the stage have */
    bool shares_kv;                    /* .. and other ranks have some of them, too */
    uint32_t *kv_head;                 /* (heads held) index among the KV heads held */
} ag_layer_shard_t;

/* Who holds the experts of a stage's layers; a place is an expert on one of the ranks. */
typedef struct ag_expert_shard {
    uint32_t n_held;
    uint32_t *held;          /* (n_held) ascending */
    uint32_t index, n_ranks; /* among the ranks that send each other rows: of one replica, or
                                several */
    uint32_t n_replicas;     /* that these are of */
    bool are_alike;          /* replicas hold the same, in the same way */
    uint32_t *n_held_of;     /* (n_ranks) of each rank, this one too */
    uint32_t n_places;       /* the sum of those: rank after rank, each one's experts ascending */
    uint32_t *place_begin;   /* (experts + 1) in places */
    uint32_t *places;        /* that this rank's rows go to: its own, or all */
} ag_expert_shard_t;

/* One rank's part of a stage. */
typedef struct ag_shard {
    uint32_t index, n_ranks; /* among the ranks whose sums are parts of one: they share heads out */
    uint32_t stage_index, n_stage_ranks; /* among all of the stage: experts and vocabulary */
    /* Which rows of a step are this rank's alone: from row_part / n_row_parts of them on. */
    uint32_t row_part, row_part_end, n_row_parts;
    bool norms_own_rows;       /* training: norms before parts are of those rows alone */
    ag_expert_shard_t experts; /* empty where the model has none */
    uint32_t vocab_begin, vocab_end;
    uint32_t n_layer_kinds;
    ag_layer_shard_t layers[AG_MAX_LAYER_KINDS];
} ag_shard_t;

/** This rank's rows of a step of so many; and the most that it has of any that is no larger. */
static inline void ag_shard_rows(const ag_shard_t *shard, uint64_t n_rows, uint64_t *begin_p,
                                 uint64_t *end_p)
{
    *begin_p = n_rows * shard->row_part / shard->n_row_parts;
    *end_p = n_rows * shard->row_part_end / shard->n_row_parts;
}
static inline uint64_t ag_shard_most_rows(const ag_shard_t *shard, uint64_t n_rows)
{
    uint64_t n_parts = shard->row_part_end - shard->row_part;

    return (n_rows * n_parts + shard->n_row_parts - 1) / shard->n_row_parts;
}

/** Fill kv_begin, kv_end and kv_head from the query heads of each kind. */
ag_status_t ag_shard_complete(const ag_spec_t *spec, ag_shard_t *shard);
void ag_shard_fini(ag_shard_t *shard);
