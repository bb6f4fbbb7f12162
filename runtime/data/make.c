#include "runtime/data/make_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREAD_BYTES = 1 << 20, /* read for each thread before they begin */
    PART_BYTES = 128 << 10, /* of a text: what a thread tokenizes at once */
    MOST_MIB = 256,         /* of a line, or of text without a place to cut it */
    ERROR_BYTES = 1024,
};

/* A line, or a part of a text. */
typedef struct item {
    size_t begin, n_bytes; /* in the batch */
    uint64_t number;       /* from 1 */
} item_t;

typedef struct worker_state {
    ag_doc_output_t output;
    ag_status_t status;
    char error[ERROR_BYTES];
} worker_state_t;

typedef struct making {
    const ag_dataset_opts_t *opts;
    const ag_doc_rules_t *rules;
    ag_cache_writer_t *writer;
    const ag_data_file_t *file;
    ag_array_t batch; /* char: what was read and is not yet done */
    ag_array_t items; /* item_t: whole ones in the batch */
    uint64_t n_items_before;
    unsigned n_threads;
    worker_state_t *workers; /* (n_threads) */
    uint64_t n_replaced;
    int32_t last_id; /* of a text, so far */
    uint64_t n_docs; /* of the file */
} making_t;

static ag_status_t make_item(const making_t *making, const item_t *item, ag_doc_output_t *output)
{
    const char *bytes = AG_ITEMS(&making->batch, char) + item->begin;

    if (ag_cancel_is_asked(making->opts->cancel)) {
        return ag_fail(AG_ERR_INTERRUPTED, "interrupted while tokenizing %s", making->file->path);
    }
    return making->file->kind == AG_DATA_LINES
               ? ag_doc_line(making->rules, making->file->path, item->number, bytes, item->n_bytes,
                             output)
               : ag_doc_text(making->rules, making->file->path, bytes, item->n_bytes,
                             item->number > 1, output);
}

static void make_share(void *arg, const ag_worker_t *worker)
{
    making_t *making = arg;
    worker_state_t *mine = &making->workers[worker->thread];
    uint64_t begin, end;

    mine->status = AG_OK;
    mine->output.ids.n_items = mine->output.docs.n_items = 0;
    ag_worker_share(worker, making->items.n_items, 1, &begin, &end);
    for (uint64_t i = begin; i < end && mine->status == AG_OK; i++) {
        mine->status = make_item(making, &AG_ITEMS(&making->items, item_t)[i], &mine->output);
        if (mine->status != AG_OK) { /* the record is the thread's own */
            snprintf(mine->error, sizeof(mine->error), "%s", ag_error());
        }
    }
}

/* The ids of a text: a second BOS is left out, and the last of them is remembered. */
static ag_status_t add_text_ids(making_t *making, const ag_array_t *ids, bool is_first)
{
    const int32_t *id = ids->items;
    int32_t bos = ag_tokenizer_bos(making->rules->tokenizer);
    size_t n = ids->n_items, skip = is_first && bos >= 0 && n > 0 && id[0] == bos;

    making->last_id = n > skip ? id[n - 1] : making->last_id;
    return ag_cache_add(making->writer, id + skip, n - skip, NULL, 0);
}

/* Tokenize the items that are there, and write what they give in their order. */
static ag_status_t make_items(making_t *making)
{
    if (making->opts->team != NULL) {
        ag_team_run(making->opts->team, make_share, making);
    } else {
        make_share(making, &(ag_worker_t){.n_threads = 1});
    }
    for (unsigned i = 0; i < making->n_threads; i++) {
        worker_state_t *worker = &making->workers[i];
        const ag_doc_output_t *output = &worker->output;
        ag_status_t status =
            worker->status == AG_OK ? AG_OK : ag_fail(worker->status, "%s", worker->error);

        if (status == AG_OK && making->file->kind == AG_DATA_TEXT) {
            status = add_text_ids(making, &output->ids, making->n_items_before == 0 && i == 0);
        } else if (status == AG_OK) {
            making->n_docs += output->docs.n_items;
            status = ag_cache_add(making->writer, output->ids.items, output->ids.n_items,
                                  output->docs.items, output->docs.n_items);
        }
        if (status != AG_OK) {
            return status;
        }
    }
    making->n_items_before += making->items.n_items;
    return AG_OK;
}

static ag_status_t add_item(making_t *making, size_t begin, size_t end)
{
    item_t item = {.begin = begin,
                   .n_bytes = end - begin,
                   .number = making->n_items_before + making->items.n_items + 1};

    return ag_array_append(&making->items, &item, 1);
}

/* Whole lines of the batch. @param done_p out: where the rest begins. */
static ag_status_t find_lines(making_t *making, bool is_end, size_t *done_p)
{
    const char *bytes = making->batch.items;
    size_t at = 0, n = making->batch.n_items;
    ag_status_t status = AG_OK;

    while (at < n && status == AG_OK) {
        const char *feed = memchr(bytes + at, '\n', n - at);
        size_t end = feed != NULL ? (size_t)(feed - bytes) : n;

        if (feed == NULL && !is_end) {
            break;
        }
        status = add_item(making, at, end);
        at = end + (feed != NULL);
    }
    *done_p = at;
    return status;
}

/* The next place to cut a text: about PART_BYTES on, or further where there is none so near. */
static size_t next_cut(const making_t *making, size_t at)
{
    const char *bytes = making->batch.items;
    size_t n = making->batch.n_items, cut = 0;

    for (size_t want = at + PART_BYTES; want < n && cut == 0; want += PART_BYTES) {
        cut = ag_data_find_cut(making->rules, bytes, n, want - PART_BYTES / 2, want);
    }
    return cut;
}

static ag_status_t find_parts(making_t *making, bool is_end, size_t *done_p)
{
    size_t at = 0, cut;
    ag_status_t status = AG_OK;

    while (status == AG_OK && (cut = next_cut(making, at)) > 0) {
        status = add_item(making, at, cut);
        at = cut;
    }
    if (status == AG_OK && is_end && at < making->batch.n_items) {
        status = add_item(making, at, making->batch.n_items);
        at = making->batch.n_items;
    }
    *done_p = at;
    return status;
}

static ag_status_t fail_too_long(const making_t *making)
{
    if (making->file->kind == AG_DATA_LINES) {
        return ag_fail(AG_ERR_FORMAT, "%s:%llu: a line of more than %d MiB: cut it into several",
                       making->file->path, (unsigned long long)making->n_items_before + 1,
                       MOST_MIB);
    }
    return ag_fail(AG_ERR_FORMAT, "%s: more than %d MiB of text without a space: is it text?",
                   making->file->path, MOST_MIB);
}

/* Read a batch, tokenize it, keep the rest of it for the next. */
static ag_status_t make_batch(making_t *making, ag_data_file_t *file, bool *end_p)
{
    ag_array_t *batch = &making->batch;
    size_t target = batch->n_items + (size_t)THREAD_BYTES * making->n_threads, done = 0;
    ag_status_t status = AG_OK;

    while (status == AG_OK && batch->n_items < target && !*end_p) {
        status = ag_data_file_block(file, batch, end_p);
    }
    making->items.n_items = 0;
    if (status == AG_OK) {
        status = file->kind == AG_DATA_LINES ? find_lines(making, *end_p, &done)
                                             : find_parts(making, *end_p, &done);
    }
    if (status == AG_OK && done == 0 && batch->n_items > (size_t)MOST_MIB << 20) {
        status = fail_too_long(making);
    }
    if (status == AG_OK && making->items.n_items > 0) {
        status = make_items(making);
    }
    if (status == AG_OK) {
        batch->n_items -= done;
        memmove(batch->items, AG_ITEMS(batch, char) + done, batch->n_items);
    }
    return status;
}

/* A text file is one document. */
static ag_status_t begin_text(making_t *making)
{
    const ag_data_doc_t doc = {.first_target = 1};
    int32_t bos = ag_tokenizer_bos(making->rules->tokenizer);

    making->last_id = -1;
    bos |= bos >= 0 ? AG_DATA_NO_LOSS : 0;
    return ag_cache_add(making->writer, &bos, bos != -1, &doc, 1);
}

static ag_status_t end_text(making_t *making)
{
    const ag_tokenizer_t *tokenizer = making->rules->tokenizer;
    int32_t eos = ag_tokenizer_eos(tokenizer);
    bool ends = making->last_id >= 0 && ag_tokenizer_is_end(tokenizer, making->last_id);

    return ag_cache_add(making->writer, &eos, eos >= 0 && !ends, NULL, 0);
}

static ag_status_t make_file(making_t *making, ag_data_file_t *file)
{
    bool is_text = file->kind == AG_DATA_TEXT, is_end = false;
    ag_status_t status;

    making->file = file;
    making->batch.n_items = 0;
    making->n_items_before = making->n_docs = 0;
    status = is_text ? begin_text(making) : AG_OK;
    while (status == AG_OK && !is_end) {
        status = make_batch(making, file, &is_end);
    }
    if (status == AG_OK) {
        status = ag_data_file_check(file);
    }
    if (status == AG_OK && is_text) {
        status = end_text(making);
    } else if (status == AG_OK && making->n_docs == 0) {
        status = ag_fail(AG_ERR_FORMAT, "%s holds nothing but blank lines", file->path);
    }
    return status;
}

static ag_status_t make_files(making_t *making, ag_data_stamp_t *stamps)
{
    for (size_t i = 0; i < making->opts->n_paths; i++) {
        ag_data_file_t file;
        ag_status_t status = ag_data_file_open(making->opts->paths[i], &file);

        if (status != AG_OK) {
            return status;
        }
        status = make_file(making, &file);
        stamps[i] = file.stamp;
        ag_data_file_close(&file);
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

static ag_status_t write_cache(making_t *making, const char *path, uint64_t key)
{
    size_t n = making->opts->n_paths;
    ag_data_stamp_t *stamps = calloc(n, sizeof(*stamps));
    ag_status_t status = stamps != NULL ? ag_cache_create(path, key, &making->writer)
                                        : ag_fail_nomem(path, n * sizeof(*stamps));

    if (status != AG_OK) {
        free(stamps);
        return status;
    }
    status = make_files(making, stamps);
    for (unsigned i = 0; i < making->n_threads; i++) {
        making->n_replaced += making->workers[i].output.n_replaced;
    }
    if (status == AG_OK) {
        status = ag_cache_complete(making->writer, stamps, n, making->n_replaced);
    } else {
        ag_cache_discard(making->writer);
    }
    free(stamps);
    return status;
}

ag_status_t ag_data_make(const ag_dataset_opts_t *opts, const ag_doc_rules_t *rules,
                         const char *path, uint64_t key)
{
    making_t making = {.opts = opts,
                       .rules = rules,
                       .batch = AG_ARRAY(char),
                       .items = AG_ARRAY(item_t),
                       .n_threads = opts->team != NULL ? ag_team_size(opts->team) : 1};
    ag_status_t status;

    making.workers = calloc(making.n_threads, sizeof(*making.workers));
    if (making.workers == NULL) {
        return ag_fail_nomem(path, making.n_threads * sizeof(*making.workers));
    }
    for (unsigned i = 0; i < making.n_threads; i++) {
        ag_doc_output_init(&making.workers[i].output);
    }
    status = write_cache(&making, path, key);
    for (unsigned i = 0; i < making.n_threads; i++) {
        ag_doc_output_fini(&making.workers[i].output);
    }
    free(making.workers);
    ag_array_fini(&making.batch);
    ag_array_fini(&making.items);
    return status;
}
