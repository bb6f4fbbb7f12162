/* Pieces of documents into rows. */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/status.h"
#include "runtime/data/order_priv.h"

/* Tokens of a document that stay together: all but the last are read, all but the first learned. */
typedef struct ag_data_piece {
    uint64_t begin;    /* its first id */
    uint32_t n_tokens; /* 2 .. seq_length + 1; it takes one place less in a row */
} ag_data_piece_t;

typedef struct ag_packing {
    uint32_t *pieces;    /* (n_pieces) numbers of pieces, row after row */
    uint32_t *row_begin; /* (n_rows + 1) in `pieces` */
    uint32_t n_rows;
} ag_packing_t;

/**
 * Best fit, the longest first, in windows of the order: a window is the next pieces that fill
 * AG_PACK_ROWS rows (Ding et al., "Fewer truncations improve language modeling", ICML 2024, where
 * the window is everything). Rows come in the order of their first pieces.
 * @param pieces  (n_pieces), 1 or more.
 * @param order   of the pieces; NULL: as they stand.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_INTERRUPTED.
 */
ag_status_t ag_pack(const ag_data_piece_t *pieces, uint32_t n_pieces, uint32_t seq_length,
                    const ag_order_t *order, const ag_cancel_t *cancel, ag_packing_t *packing);
void ag_packing_fini(ag_packing_t *packing);

enum { AG_PACK_ROWS = 256, AG_PACK_PIECES = 1 << 16 /* in a window, at most */ };
