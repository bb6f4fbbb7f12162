/* Rows as a trainer wants them, and as text to be looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/data/dataset_priv.h"

uint64_t ag_data_row_at(const ag_dataset_t *dataset, ag_data_position_t position)
{
    ag_order_t order = ag_order(dataset->seed, AG_ORDER_ROWS, position.epoch, dataset->counts.rows);

    return dataset->shuffled ? ag_order_at(&order, position.row) : position.row;
}

ag_status_t ag_data_piece_ids(const ag_dataset_t *dataset, const ag_data_piece_t *piece,
                              int32_t *ids)
{
    ag_status_t status = ag_cache_ids(dataset->cache, piece->begin, piece->n_tokens, ids);

    for (uint32_t i = 0; i < piece->n_tokens && status == AG_OK; i++) {
        if ((uint32_t)ag_data_id(ids[i]) >= dataset->vocab_size) {
            status =
                ag_fail(AG_ERR_FORMAT, "the dataset's cache was changed while in use: start again");
        }
        ids[i] = dataset->train_on_prompt ? ag_data_id(ids[i]) : ids[i];
    }
    return status;
}

/* One row of the caller's arrays, while it is filled. */
typedef struct filling {
    uint32_t seq_length;
    int32_t *tokens, *targets, *positions; /* (seq_length) */
    uint32_t n_tokens, n_targets;
} filling_t;

static void fill_piece(filling_t *row, const int32_t *ids, uint32_t n_ids)
{
    for (uint32_t i = 0; i + 1 < n_ids; i++, row->n_tokens++) {
        bool learned = ids[i + 1] >= 0;

        row->tokens[row->n_tokens] = ag_data_id(ids[i]);
        row->targets[row->n_tokens] = learned ? ids[i + 1] : -1;
        row->positions[row->n_tokens] = (int32_t)i;
        row->n_targets += learned;
    }
}

static void fill_rest(filling_t *row)
{
    for (uint32_t i = row->n_tokens; i < row->seq_length; i++) {
        row->tokens[i] = 0;
        row->targets[i] = -1;
        row->positions[i] = (int32_t)(i - row->n_tokens);
    }
}

/* @param ids  (seq_length + 1) scratch */
static ag_status_t read_row(const ag_dataset_t *dataset, uint64_t row, int32_t *ids,
                            filling_t *filling)
{
    const uint32_t *pieces;
    size_t n_pieces;
    ag_status_t status = AG_OK;

    if (dataset->ids != NULL) {
        status = ag_data_ids_row(dataset->ids, row, ids);
        for (uint32_t i = 0; i <= dataset->seq_length && status == AG_OK; i++) {
            if ((uint32_t)ids[i] >= dataset->vocab_size) {
                status =
                    ag_fail(AG_ERR_FORMAT, "a file of ids was changed while in use: id %d", ids[i]);
            }
        }
        if (status == AG_OK) {
            fill_piece(filling, ids, dataset->seq_length + 1);
        }
        return status;
    }
    n_pieces = ag_data_row_pieces(dataset, row, &pieces);
    for (size_t i = 0; i < n_pieces && status == AG_OK; i++) {
        const ag_data_piece_t *piece = AG_ITEMS(&dataset->pieces, ag_data_piece_t) + pieces[i];

        status = ag_data_piece_ids(dataset, piece, ids);
        if (status == AG_OK) {
            fill_piece(filling, ids, piece->n_tokens);
        }
    }
    fill_rest(filling);
    return status;
}

ag_status_t ag_dataset_read(const ag_dataset_t *dataset, ag_data_position_t position,
                            uint64_t n_rows, const ag_data_rows_t *rows)
{
    uint64_t length = dataset->seq_length;
    int32_t *ids;
    ag_status_t status = ag_dataset_check(dataset, position);

    if (status != AG_OK) {
        return status;
    }
    ids = malloc((length + 1) * sizeof(*ids));
    if (ids == NULL) {
        return ag_fail_nomem("reading rows of a dataset", (length + 1) * sizeof(*ids));
    }
    for (uint64_t i = 0; i < n_rows && status == AG_OK; i++) {
        filling_t row = {.seq_length = dataset->seq_length,
                         .tokens = rows->tokens + i * length,
                         .targets = rows->targets + i * length,
                         .positions = rows->positions + i * length};

        status = read_row(dataset, ag_data_row_at(dataset, position), ids, &row);
        rows->n_tokens[i] = row.n_tokens;
        rows->n_targets[i] = row.n_targets;
        position = ag_dataset_after(dataset, position, 1);
    }
    free(ids);
    return status;
}

/* @param ids  (seq_length + 1) scratch */
static ag_status_t count_row(const ag_dataset_t *dataset, uint64_t row, int32_t *ids,
                             uint64_t *n_targets)
{
    const uint32_t *pieces;
    size_t n_pieces;

    if (dataset->ids != NULL) {
        *n_targets += dataset->seq_length;
        return AG_OK;
    }
    n_pieces = ag_data_row_pieces(dataset, row, &pieces);
    for (size_t i = 0; i < n_pieces; i++) {
        const ag_data_piece_t *piece = AG_ITEMS(&dataset->pieces, ag_data_piece_t) + pieces[i];
        ag_status_t status = AG_OK;

        if (!dataset->masks) {
            *n_targets += piece->n_tokens - 1;
            continue;
        }
        status = ag_data_piece_ids(dataset, piece, ids);
        if (status != AG_OK) {
            return status;
        }
        for (uint32_t k = 1; k < piece->n_tokens; k++) {
            *n_targets += ids[k] >= 0;
        }
    }
    return AG_OK;
}

ag_status_t ag_dataset_targets(const ag_dataset_t *dataset, ag_data_position_t position,
                               uint64_t n_rows, uint64_t *n_targets_p)
{
    size_t n_bytes = ((size_t)dataset->seq_length + 1) * sizeof(int32_t);
    ag_status_t status = ag_dataset_check(dataset, position);
    uint64_t n_targets = 0;
    int32_t *ids;

    if (status != AG_OK) {
        return status;
    }
    ids = malloc(n_bytes);
    if (ids == NULL) {
        return ag_fail_nomem("counting the targets of rows", n_bytes);
    }
    for (uint64_t i = 0; i < n_rows && status == AG_OK; i++) {
        status = count_row(dataset, ag_data_row_at(dataset, position), ids, &n_targets);
        position = ag_dataset_after(dataset, position, 1);
    }
    free(ids);
    if (status == AG_OK) {
        *n_targets_p = n_targets;
    }
    return status;
}

size_t ag_data_documents(const int32_t *positions, size_t n, int32_t *row_begin)
{
    size_t n_documents = 0;

    for (size_t i = 0; i < n; i++) {
        if (positions[i] == 0) {
            row_begin[n_documents++] = (int32_t)i;
        }
    }
    row_begin[n_documents] = (int32_t)n;
    return n_documents;
}

static ag_status_t append(ag_array_t *text, const char *more)
{
    return ag_array_append(text, more, strlen(more));
}

static ag_status_t show_id(const ag_dataset_t *dataset, int32_t id, ag_array_t *text)
{
    char number[16];

    if (dataset->tokenizer != NULL) {
        return ag_tokenizer_decode(dataset->tokenizer, &id, 1,
                                   AG_TOKEN_SPECIAL | AG_TOKEN_CONTINUES, text);
    }
    snprintf(number, sizeof(number), " %d", id);
    return append(text, number);
}

/* The first id is never learned here: nothing stands before it. */
static ag_status_t show_piece(const ag_dataset_t *dataset, size_t number, int32_t *ids, uint32_t n,
                              ag_array_t *text)
{
    uint32_t n_learned = 0;
    char head[96];
    ag_status_t status;

    ids[0] |= AG_DATA_NO_LOSS;
    for (uint32_t i = 0; i < n; i++) {
        n_learned += ids[i] >= 0;
    }
    snprintf(head, sizeof(head), "document %zu: %u tokens, %u of them learned\n", number, n,
             n_learned);
    status = append(text, head);
    for (uint32_t i = 0; i < n && status == AG_OK; i++) {
        bool masked = ids[i]<0, was_masked = i> 0 && ids[i - 1] < 0;

        if (masked != was_masked) {
            status = append(text, masked ? AG_DATA_MASK_BEGIN : AG_DATA_MASK_END);
        }
        if (status == AG_OK) {
            status = show_id(dataset, ag_data_id(ids[i]), text);
        }
    }
    if (status == AG_OK && ids[n - 1] < 0) {
        status = append(text, AG_DATA_MASK_END);
    }
    return status == AG_OK ? append(text, "\n") : status;
}

ag_status_t ag_dataset_show(const ag_dataset_t *dataset, ag_data_position_t position, size_t most,
                            ag_array_t *text)
{
    const uint32_t *pieces;
    uint64_t row;
    size_t n_pieces;
    int32_t *ids;
    ag_status_t status = ag_dataset_check(dataset, position);

    if (status != AG_OK) {
        return status;
    }
    ids = malloc(((size_t)dataset->seq_length + 1) * sizeof(*ids));
    if (ids == NULL) {
        return ag_fail_nomem("reading a row of a dataset", dataset->seq_length * sizeof(*ids));
    }
    row = ag_data_row_at(dataset, position);
    if (dataset->ids != NULL) {
        status = ag_data_ids_row(dataset->ids, row, ids);
        if (status == AG_OK) {
            status = show_piece(dataset, 1, ids, dataset->seq_length + 1, text);
        }
        free(ids);
        return status;
    }
    n_pieces = ag_data_row_pieces(dataset, row, &pieces);
    n_pieces = most > 0 && most < n_pieces ? most : n_pieces;
    for (size_t i = 0; i < n_pieces && status == AG_OK; i++) {
        const ag_data_piece_t *piece = AG_ITEMS(&dataset->pieces, ag_data_piece_t) + pieces[i];

        status = ag_data_piece_ids(dataset, piece, ids);
        if (status == AG_OK) {
            status = show_piece(dataset, i + 1, ids, piece->n_tokens, text);
        }
    }
    free(ids);
    return status;
}
