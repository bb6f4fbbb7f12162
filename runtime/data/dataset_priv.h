/* A dataset that is open: a cache file with pieces packed into rows, or files of ids. */
#pragma once

#include "runtime/data/cache_priv.h"
#include "runtime/data/dataset.h"
#include "runtime/data/ids_priv.h"
#include "runtime/data/pack_priv.h"

struct ag_dataset {
    const ag_tokenizer_t *tokenizer;
    uint32_t vocab_size, seq_length;
    uint64_t seed, fingerprint;
    bool shuffled, train_on_prompt;
    bool masks;         /* some tokens have no loss */
    ag_data_ids_t *ids; /* NULL: it is text, */
    ag_cache_t *cache;  /* tokenized in here */
    ag_array_t pieces;  /* ag_data_piece_t */
    ag_packing_t packing;
    ag_dataset_counts_t counts;
};

/**
 * Open the cache of the files of opts, making it where there is none, or not the right one.
 * @param content_p  out: hash of the files' content, wherever they lie.
 * @param made_p     out: it had to be made.
 */
ag_status_t ag_data_cache(const ag_dataset_opts_t *opts, ag_cache_t **cache_p, uint64_t *content_p,
                          bool *made_p);

/** Cut the cache's documents into pieces; counts what becomes of them. */
ag_status_t ag_data_cut(ag_dataset_t *dataset);

/** The pieces of a row of the packing. */
static inline size_t ag_data_row_pieces(const ag_dataset_t *dataset, uint64_t row,
                                        const uint32_t **pieces_p)
{
    const ag_packing_t *packing = &dataset->packing;

    *pieces_p = packing->pieces + packing->row_begin[row];
    return packing->row_begin[row + 1] - packing->row_begin[row];
}

/** Which row of the packing, or of the files of ids, stands at a position. */
uint64_t ag_data_row_at(const ag_dataset_t *dataset, ag_data_position_t position);

/** Ids of a piece, AG_DATA_NO_LOSS in them, all of the vocabulary. @param ids  out: (n_tokens). */
ag_status_t ag_data_piece_ids(const ag_dataset_t *dataset, const ag_data_piece_t *piece,
                              int32_t *ids);
