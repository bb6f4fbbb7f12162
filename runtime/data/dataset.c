#include "runtime/data/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/xxh64.h"
#include "runtime/data/dataset_priv.h"
#include "runtime/data/files_priv.h"

enum {
    MOST_SEQ_LENGTH = 1 << 24,
    ROWS_VERSION = 1, /* raised where the same data give other rows, or in another order */
};

/* Are the files there, and all ids or all text? */
static ag_status_t check_files(const ag_dataset_opts_t *opts, bool *are_ids_p)
{
    *are_ids_p = false;
    for (size_t i = 0; i < opts->n_paths; i++) {
        ag_data_file_t file;
        ag_status_t status = ag_data_file_open(opts->paths[i], &file);
        bool is_ids;

        if (status != AG_OK) {
            return status;
        }
        is_ids = file.kind == AG_DATA_IDS;
        ag_data_file_close(&file);
        if (i > 0 && is_ids != *are_ids_p) {
            return ag_fail(
                AG_ERR_INVALID,
                "%s holds %s and %s does not: a dataset is of text or of ids, not of both",
                opts->paths[is_ids ? i : 0], "token ids", opts->paths[is_ids ? 0 : i]);
        }
        *are_ids_p = is_ids;
    }
    return AG_OK;
}

static ag_status_t check_opts(const ag_dataset_opts_t *opts, bool *are_ids_p)
{
    ag_status_t status;

    if (opts->n_paths == 0) {
        return ag_fail(AG_ERR_INVALID, "a dataset without a file");
    }
    if (opts->seq_length == 0 || opts->seq_length > MOST_SEQ_LENGTH) {
        return ag_fail(AG_ERR_INVALID, "a sequence length of %u (1 to %d)", opts->seq_length,
                       MOST_SEQ_LENGTH);
    }
    if (opts->vocab_size == 0 || opts->vocab_size > INT32_MAX) {
        return ag_fail(AG_ERR_INVALID, "a vocabulary of %u", opts->vocab_size);
    }
    status = check_files(opts, are_ids_p);
    if (status != AG_OK || *are_ids_p) {
        return status;
    }
    if (opts->are_ids) {
        return ag_fail(AG_ERR_INVALID,
                       "--tokens %s: that is no .npy file of ids: texts and JSON lines are for "
                       "--data",
                       opts->paths[0]);
    }
    if (opts->tokenizer == NULL) {
        return ag_fail(AG_ERR_INVALID, "%s is text, and the model has no tokenizer: give token ids",
                       opts->paths[0]);
    }
    return opts->cache_dir != NULL
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "%s: no folder to keep its ids in", opts->paths[0]);
}

static ag_status_t open_ids(ag_dataset_t *dataset, const ag_dataset_opts_t *opts,
                            uint64_t *content_p)
{
    ag_dataset_counts_t *counts = &dataset->counts;
    ag_status_t status = ag_data_ids_open(opts, &dataset->ids);

    if (status != AG_OK) {
        return status;
    }
    counts->documents = opts->n_paths;
    counts->tokens = ag_data_ids_count(dataset->ids);
    counts->rows = counts->pieces = ag_data_ids_rows(dataset->ids);
    counts->row_tokens = counts->rows * dataset->seq_length;
    counts->unused_tokens = counts->tokens - counts->row_tokens - opts->n_paths;
    *content_p = ag_data_ids_hash(dataset->ids);
    return AG_OK;
}

static ag_status_t open_text(ag_dataset_t *dataset, const ag_dataset_opts_t *opts,
                             uint64_t *content_p)
{
    ag_dataset_counts_t *counts = &dataset->counts;
    ag_order_t order;
    bool made;
    ag_status_t status = ag_data_cache(opts, &dataset->cache, content_p, &made);

    if (status != AG_OK) {
        return status;
    }
    counts->documents = ag_cache_foot(dataset->cache)->n_docs;
    counts->tokens = ag_cache_foot(dataset->cache)->n_ids;
    counts->replaced = ag_cache_foot(dataset->cache)->n_replaced;
    counts->from_cache = !made;
    status = ag_data_cut(dataset);
    if (status != AG_OK) {
        return status;
    }
    counts->pieces = dataset->pieces.n_items;
    if (counts->pieces == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: none of %llu documents has a token to learn from%s",
                       opts->paths[0], (unsigned long long)counts->documents,
                       counts->cut > 0 ? " within the sequence length" : "");
    }
    order = ag_order(dataset->seed, AG_ORDER_PIECES, 0, counts->pieces);
    status = ag_pack(dataset->pieces.items, (uint32_t)counts->pieces, dataset->seq_length,
                     dataset->shuffled ? &order : NULL, opts->cancel, &dataset->packing);
    counts->rows = dataset->packing.n_rows;
    return status;
}

/* @param content  hash of what the files hold. */
static uint64_t fingerprint(const ag_dataset_t *dataset, const ag_chat_opts_t *chat,
                            uint64_t content)
{
    const uint64_t words[] = {
        ROWS_VERSION,
        content,
        dataset->ids == NULL ? ag_tokenizer_fingerprint(dataset->tokenizer) : 0,
        dataset->ids == NULL ? ag_chat_opts_fingerprint(chat) : 0,
        dataset->seq_length,
        dataset->shuffled,
        dataset->shuffled ? dataset->seed : 0,
        dataset->train_on_prompt,
    };

    return ag_xxh64(words, sizeof(words));
}

ag_status_t ag_dataset_open(const ag_dataset_opts_t *opts, ag_dataset_t **dataset_p)
{
    ag_dataset_t *dataset;
    bool are_ids = false;
    uint64_t content = 0;
    ag_status_t status = check_opts(opts, &are_ids);

    if (status != AG_OK) {
        return status;
    }
    dataset = calloc(1, sizeof(*dataset));
    if (dataset == NULL) {
        return ag_fail_nomem("opening a dataset", sizeof(*dataset));
    }
    dataset->tokenizer = opts->tokenizer;
    dataset->vocab_size = opts->vocab_size;
    dataset->seq_length = opts->seq_length;
    dataset->seed = opts->seed;
    dataset->train_on_prompt = opts->train_on_prompt;
    dataset->shuffled =
        opts->order == AG_DATA_SHUFFLED || (opts->order == AG_DATA_ORDER_DEFAULT && !are_ids);
    dataset->pieces = AG_ARRAY(ag_data_piece_t);
    status = are_ids ? open_ids(dataset, opts, &content) : open_text(dataset, opts, &content);
    if (status != AG_OK) {
        ag_dataset_close(dataset);
        return status;
    }
    dataset->fingerprint = fingerprint(dataset, &opts->chat, content);
    *dataset_p = dataset;
    return AG_OK;
}

void ag_dataset_close(ag_dataset_t *dataset)
{
    if (dataset != NULL) {
        ag_data_ids_close(dataset->ids);
        ag_cache_close(dataset->cache);
        ag_array_fini(&dataset->pieces);
        ag_packing_fini(&dataset->packing);
        free(dataset);
    }
}

ag_dataset_counts_t ag_dataset_counts(const ag_dataset_t *dataset)
{
    return dataset->counts;
}

bool ag_dataset_is_shuffled(const ag_dataset_t *dataset)
{
    return dataset->shuffled;
}

uint64_t ag_dataset_bytes(const ag_dataset_t *dataset)
{
    uint64_t n_words = dataset->packing.pieces != NULL ? 2 * dataset->counts.pieces + 1 : 0;

    return sizeof(*dataset) + dataset->pieces.capacity * sizeof(ag_data_piece_t) +
           n_words * sizeof(uint32_t);
}
