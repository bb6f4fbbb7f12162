#include "runtime/data/ids_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/base/xxh64.h"
#include "runtime/file/npy.h"

enum { BLOCK_IDS = 1 << 16, ERROR_BYTES = 1024 };

struct ag_data_ids {
    size_t n_files;
    ag_npy_ids_t **files; /* (n_files) */
    uint64_t *first_row;  /* (n_files + 1) */
    uint32_t seq_length;
    uint64_t n_ids, hash;
};

typedef struct scan {
    const ag_dataset_opts_t *opts;
    const char *path;
    const ag_npy_ids_t *file;
    uint64_t n_ids, n_blocks;
    uint64_t *hashes;      /* (n_blocks) */
    ag_status_t *statuses; /* (threads) */
    char (*errors)[ERROR_BYTES];
} scan_t;

static ag_status_t scan_block(const scan_t *scan, uint64_t block, int32_t *ids)
{
    uint64_t first = block * BLOCK_IDS, left = scan->n_ids - first;
    size_t n = left < BLOCK_IDS ? left : BLOCK_IDS;
    ag_status_t status;

    if (ag_cancel_is_asked(scan->opts->cancel)) {
        return ag_fail(AG_ERR_INTERRUPTED, "interrupted while checking %s", scan->path);
    }
    status = ag_npy_ids_read(scan->file, first, n, ids);
    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= scan->opts->vocab_size) {
            return ag_fail(
                AG_ERR_FORMAT, "%s: element %llu, %d, is beyond the model's vocabulary of %u",
                scan->path, (unsigned long long)(first + i), ids[i], scan->opts->vocab_size);
        }
    }
    scan->hashes[block] = ag_xxh64(ids, n * sizeof(*ids));
    return AG_OK;
}

static void scan_share(void *arg, const ag_worker_t *worker)
{
    scan_t *scan = arg;
    int32_t *ids = malloc(BLOCK_IDS * sizeof(*ids));
    ag_status_t status = ids == NULL ? ag_fail_nomem(scan->path, BLOCK_IDS * sizeof(*ids)) : AG_OK;
    uint64_t begin, end;

    ag_worker_share(worker, scan->n_blocks, 1, &begin, &end);
    for (uint64_t i = begin; i < end && status == AG_OK; i++) {
        status = scan_block(scan, i, ids);
    }
    if (status != AG_OK) {
        snprintf(scan->errors[worker->thread], ERROR_BYTES, "%s", ag_error());
    }
    scan->statuses[worker->thread] = status;
    free(ids);
}

/* Check a file's ids, and let them go into the hash. */
static ag_status_t scan_file(ag_data_ids_t *ids, const ag_dataset_opts_t *opts, size_t number)
{
    unsigned n_threads = opts->team != NULL ? ag_team_size(opts->team) : 1;
    scan_t scan = {.opts = opts,
                   .path = opts->paths[number],
                   .file = ids->files[number],
                   .n_ids = ag_npy_ids_count(ids->files[number])};
    ag_status_t status = AG_OK;

    scan.n_blocks = (scan.n_ids + BLOCK_IDS - 1) / BLOCK_IDS;
    scan.hashes = calloc(scan.n_blocks + 1, sizeof(*scan.hashes));
    scan.statuses = calloc(n_threads, sizeof(*scan.statuses));
    scan.errors = calloc(n_threads, sizeof(*scan.errors));
    if (scan.hashes == NULL || scan.statuses == NULL || scan.errors == NULL) {
        status = ag_fail_nomem(scan.path, scan.n_blocks * sizeof(*scan.hashes));
        goto free_hashes;
    }
    if (opts->team != NULL) {
        ag_team_run(opts->team, scan_share, &scan);
    } else {
        scan_share(&scan, &(ag_worker_t){.n_threads = 1});
    }
    for (unsigned i = 0; i < n_threads && status == AG_OK; i++) {
        if (scan.statuses[i] != AG_OK) {
            status = ag_fail(scan.statuses[i], "%s", scan.errors[i]);
        }
    }
    ids->hash = ag_hash_bytes(ids->hash, scan.hashes, scan.n_blocks * sizeof(*scan.hashes));
    ids->hash = ag_hash_bytes(ids->hash, &scan.n_ids, sizeof(scan.n_ids));

free_hashes:
    free(scan.hashes);
    free(scan.statuses);
    free(scan.errors);
    return status;
}

static ag_status_t open_file(ag_data_ids_t *ids, const ag_dataset_opts_t *opts, size_t number)
{
    uint64_t n_ids, n_rows;
    ag_status_t status = ag_npy_ids_open(opts->paths[number], &ids->files[number]);

    if (status != AG_OK) {
        return status;
    }
    n_ids = ag_npy_ids_count(ids->files[number]);
    n_rows = n_ids > 0 ? (n_ids - 1) / opts->seq_length : 0;
    if (n_rows == 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s holds %llu ids: one row of %u needs one more than that: give more, or a "
                       "shorter sequence length",
                       opts->paths[number], (unsigned long long)n_ids, opts->seq_length);
    }
    ids->n_ids += n_ids;
    ids->first_row[number + 1] = ids->first_row[number] + n_rows;
    return scan_file(ids, opts, number);
}

ag_status_t ag_data_ids_open(const ag_dataset_opts_t *opts, ag_data_ids_t **ids_p)
{
    ag_data_ids_t *ids = calloc(1, sizeof(*ids));
    ag_status_t status = AG_OK;

    if (ids == NULL) {
        return ag_fail_nomem("opening files of ids", sizeof(*ids));
    }
    ids->n_files = opts->n_paths;
    ids->seq_length = opts->seq_length;
    ids->hash = AG_HASH_SEED;
    ids->files = calloc(opts->n_paths, sizeof(*ids->files));
    ids->first_row = calloc(opts->n_paths + 1, sizeof(*ids->first_row));
    if (ids->files == NULL || ids->first_row == NULL) {
        status = ag_fail_nomem("opening files of ids", opts->n_paths * sizeof(*ids->files));
    }
    for (size_t i = 0; i < opts->n_paths && status == AG_OK; i++) {
        status = open_file(ids, opts, i);
    }
    if (status != AG_OK) {
        ag_data_ids_close(ids);
        return status;
    }
    *ids_p = ids;
    return AG_OK;
}

void ag_data_ids_close(ag_data_ids_t *ids)
{
    if (ids == NULL) {
        return;
    }
    for (size_t i = 0; ids->files != NULL && i < ids->n_files; i++) {
        ag_npy_ids_close(ids->files[i]);
    }
    free(ids->files);
    free(ids->first_row);
    free(ids);
}

uint64_t ag_data_ids_count(const ag_data_ids_t *ids)
{
    return ids->n_ids;
}

uint64_t ag_data_ids_rows(const ag_data_ids_t *ids)
{
    return ids->first_row[ids->n_files];
}

uint64_t ag_data_ids_hash(const ag_data_ids_t *ids)
{
    return ids->hash;
}

ag_status_t ag_data_ids_row(const ag_data_ids_t *ids, uint64_t row, int32_t *tokens)
{
    size_t file = 0;

    while (row >= ids->first_row[file + 1]) {
        file++;
    }
    return ag_npy_ids_read(ids->files[file], (row - ids->first_row[file]) * ids->seq_length,
                           (size_t)ids->seq_length + 1, tokens);
}
