/* Documents become pieces that fit into a row. */
#include "runtime/data/dataset_priv.h"

enum { DOCS_AT_ONCE = 4096 };

static ag_status_t add_piece(ag_dataset_t *dataset, uint64_t begin, uint64_t n_tokens)
{
    ag_data_piece_t piece = {.begin = begin, .n_tokens = (uint32_t)n_tokens};

    if (dataset->pieces.n_items == UINT32_MAX - 1) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "more than 4 thousand million pieces of documents: give the data in parts");
    }
    dataset->counts.row_tokens += n_tokens - 1;
    return ag_array_append(&dataset->pieces, &piece, 1);
}

/* @param n_tokens  of the document. */
static ag_status_t cut_document(ag_dataset_t *dataset, const ag_data_doc_t *doc, uint64_t n_tokens)
{
    ag_dataset_counts_t *counts = &dataset->counts;
    uint64_t most = (uint64_t)dataset->seq_length + 1;
    ag_status_t status = AG_OK;

    dataset->masks |= doc->flags & AG_DOC_SAMPLE && !dataset->train_on_prompt;
    if (doc->flags & AG_DOC_SAMPLE && n_tokens > most) {
        counts->cut++;
        counts->cut_tokens += n_tokens - most;
        n_tokens = most;
    }
    if (n_tokens < 2 || (!dataset->train_on_prompt && doc->first_target >= n_tokens)) {
        counts->without_target++;
        return AG_OK;
    }
    counts->split += n_tokens > most;
    for (uint64_t at = 0; at + 1 < n_tokens && status == AG_OK; at += dataset->seq_length) {
        uint64_t left = n_tokens - at;

        /* the last token of a piece is the first of the next: each but the first is learned once */
        status = add_piece(dataset, doc->begin + at, left < most ? left : most);
    }
    return status;
}

ag_status_t ag_data_cut(ag_dataset_t *dataset)
{
    const ag_cache_foot_t *foot = ag_cache_foot(dataset->cache);
    ag_data_doc_t docs[DOCS_AT_ONCE + 1];

    for (uint64_t first = 0; first < foot->n_docs; first += DOCS_AT_ONCE) {
        uint64_t left = foot->n_docs - first;
        size_t n = left < DOCS_AT_ONCE ? left : DOCS_AT_ONCE;
        ag_status_t status = ag_cache_docs(dataset->cache, first, n + (left > n), docs);

        if (left == n) {
            docs[n].begin = foot->n_ids;
        }
        for (size_t i = 0; i < n && status == AG_OK; i++) {
            status = cut_document(dataset, &docs[i], docs[i + 1].begin - docs[i].begin);
        }
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}
