#include "runtime/data/cache_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/xxh64.h"

enum { HASH_BLOCK_BYTES = AG_DATA_BLOCK_BYTES, DOCS_AT_ONCE = 4096 };

struct ag_cache {
    int fd;
    char *path;
    ag_cache_foot_t foot;
};

uint64_t ag_cache_hash(uint64_t hash, const void *block, size_t n_bytes)
{
    uint64_t mine = ag_xxh64(block, n_bytes);

    return ag_hash_bytes(hash, &mine, sizeof(mine));
}

static ag_status_t read_at(const ag_cache_t *cache, uint64_t offset_bytes, size_t n_bytes,
                           void *dst)
{
    size_t done = 0;

    while (done < n_bytes) {
        ssize_t got =
            pread(cache->fd, (char *)dst + done, n_bytes - done, (off_t)(offset_bytes + done));

        if (got < 0 && errno != EINTR) {
            return ag_fail(AG_ERR_IO, "reading %s at byte %llu: %s", cache->path,
                           (unsigned long long)(offset_bytes + done), strerror(errno));
        }
        if (got == 0) {
            return ag_fail(AG_ERR_FORMAT, "%s is truncated: was it changed while in use?",
                           cache->path);
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return AG_OK;
}

static uint64_t docs_at(const ag_cache_t *cache)
{
    return cache->foot.n_ids * sizeof(int32_t);
}

static uint64_t stamps_at(const ag_cache_t *cache)
{
    return docs_at(cache) + cache->foot.n_docs * sizeof(ag_data_doc_t);
}

ag_status_t ag_cache_ids(const ag_cache_t *cache, uint64_t first, size_t n, int32_t *ids)
{
    return read_at(cache, first * sizeof(*ids), n * sizeof(*ids), ids);
}

ag_status_t ag_cache_docs(const ag_cache_t *cache, uint64_t first, size_t n, ag_data_doc_t *docs)
{
    return read_at(cache, docs_at(cache) + first * sizeof(*docs), n * sizeof(*docs), docs);
}

ag_status_t ag_cache_stamps(const ag_cache_t *cache, ag_data_stamp_t *stamps)
{
    return read_at(cache, stamps_at(cache), cache->foot.n_files * sizeof(*stamps), stamps);
}

const ag_cache_foot_t *ag_cache_foot(const ag_cache_t *cache)
{
    return &cache->foot;
}

static ag_status_t check_foot(const ag_cache_t *cache, uint64_t file_bytes, uint64_t key)
{
    const ag_cache_foot_t *foot = &cache->foot;
    uint64_t ids_bytes, docs_bytes, stamps_bytes, body_bytes;

    if (memcmp(foot->magic, AG_CACHE_MAGIC, sizeof(foot->magic)) != 0 ||
        foot->foot_hash != ag_xxh64(foot, offsetof(ag_cache_foot_t, foot_hash))) {
        return ag_fail(AG_ERR_FORMAT, "%s is damaged", cache->path);
    }
    if (foot->version != AG_CACHE_VERSION || foot->key != key) {
        return ag_fail(AG_ERR_FORMAT, "%s is of another version, tokenizer or data", cache->path);
    }
    if (__builtin_mul_overflow(foot->n_ids, sizeof(int32_t), &ids_bytes) ||
        __builtin_mul_overflow(foot->n_docs, sizeof(ag_data_doc_t), &docs_bytes) ||
        __builtin_mul_overflow(foot->n_files, sizeof(ag_data_stamp_t), &stamps_bytes) ||
        __builtin_add_overflow(ids_bytes, docs_bytes, &body_bytes) ||
        __builtin_add_overflow(body_bytes, stamps_bytes, &body_bytes) ||
        body_bytes != file_bytes - sizeof(*foot)) {
        return ag_fail(AG_ERR_FORMAT, "%s is damaged: its parts do not make up the file",
                       cache->path);
    }
    return AG_OK;
}

/* Documents follow one another, and none begins beyond the ids. */
static ag_status_t check_docs(const ag_cache_t *cache)
{
    ag_data_doc_t docs[DOCS_AT_ONCE];
    uint64_t begin = 0;

    for (uint64_t first = 0; first < cache->foot.n_docs; first += DOCS_AT_ONCE) {
        uint64_t left = cache->foot.n_docs - first;
        size_t n = left < DOCS_AT_ONCE ? left : DOCS_AT_ONCE;
        ag_status_t status = ag_cache_docs(cache, first, n, docs);

        if (status != AG_OK) {
            return status;
        }
        for (size_t i = 0; i < n; i++) {
            if (docs[i].begin < begin || docs[i].begin > cache->foot.n_ids) {
                return ag_fail(AG_ERR_FORMAT, "%s is damaged: document %llu", cache->path,
                               (unsigned long long)(first + i));
            }
            begin = docs[i].begin;
        }
    }
    return AG_OK;
}

/* All threads hash blocks of the body, each its own; their hashes are hashed in order. */
typedef struct checking {
    const ag_cache_t *cache;
    const ag_cancel_t *cancel;
    uint64_t body_bytes, n_blocks;
    uint64_t *hashes;      /* (n_blocks) */
    ag_status_t *statuses; /* (threads) */
} checking_t;

static void hash_blocks(void *arg, const ag_worker_t *worker)
{
    checking_t *checking = arg;
    unsigned char *block = malloc(HASH_BLOCK_BYTES);
    ag_status_t status = block == NULL ? AG_ERR_NOMEM : AG_OK;
    uint64_t begin, end;

    ag_worker_share(worker, checking->n_blocks, 1, &begin, &end);
    for (uint64_t i = begin; i < end && status == AG_OK; i++) {
        uint64_t left = checking->body_bytes - i * HASH_BLOCK_BYTES;
        size_t n = left < HASH_BLOCK_BYTES ? left : HASH_BLOCK_BYTES;

        status = ag_cancel_is_asked(checking->cancel)
                     ? AG_ERR_INTERRUPTED
                     : read_at(checking->cache, i * HASH_BLOCK_BYTES, n, block);
        if (status == AG_OK) {
            checking->hashes[i] = ag_xxh64(block, n);
        }
    }
    free(block);
    checking->statuses[worker->thread] = status;
}

/* The threads' errors stand in their own records. */
static ag_status_t fail_checking(const checking_t *checking, unsigned n_threads)
{
    const char *path = checking->cache->path;

    for (unsigned i = 0; i < n_threads; i++) {
        switch (checking->statuses[i]) {
        case AG_OK:
            break;
        case AG_ERR_INTERRUPTED:
            return ag_fail(AG_ERR_INTERRUPTED, "interrupted while checking %s", path);
        case AG_ERR_NOMEM:
            return ag_fail_nomem(path, HASH_BLOCK_BYTES);
        default:
            return ag_fail(AG_ERR_FORMAT, "%s cannot be read to its end", path);
        }
    }
    return AG_OK;
}

static ag_status_t check_body(const ag_cache_t *cache, ag_team_t *team, const ag_cancel_t *cancel)
{
    unsigned n_threads = team != NULL ? ag_team_size(team) : 1;
    checking_t checking = {.cache = cache,
                           .cancel = cancel,
                           .body_bytes =
                               stamps_at(cache) + cache->foot.n_files * sizeof(ag_data_stamp_t)};
    uint64_t hash = AG_HASH_SEED;
    ag_status_t status;

    checking.n_blocks = (checking.body_bytes + HASH_BLOCK_BYTES - 1) / HASH_BLOCK_BYTES;
    checking.hashes = calloc(checking.n_blocks + 1, sizeof(*checking.hashes));
    checking.statuses = calloc(n_threads, sizeof(*checking.statuses));
    if (checking.hashes == NULL || checking.statuses == NULL) {
        status = ag_fail_nomem(cache->path, checking.n_blocks * sizeof(*checking.hashes));
        goto free_hashes;
    }
    if (team != NULL) {
        ag_team_run(team, hash_blocks, &checking);
    } else {
        hash_blocks(&checking, &(ag_worker_t){.n_threads = 1});
    }
    status = fail_checking(&checking, n_threads);
    for (uint64_t i = 0; i < checking.n_blocks; i++) {
        hash = ag_hash_bytes(hash, &checking.hashes[i], sizeof(checking.hashes[i]));
    }
    if (status == AG_OK && hash != cache->foot.body_hash) {
        status = ag_fail(AG_ERR_FORMAT, "%s is damaged", cache->path);
    }

free_hashes:
    free(checking.hashes);
    free(checking.statuses);
    return status;
}

static ag_status_t read_foot(ag_cache_t *cache, uint64_t key)
{
    struct stat info;
    uint64_t n_bytes;
    ag_status_t status;

    if (fstat(cache->fd, &info) != 0) {
        return ag_fail(AG_ERR_IO, "looking at %s: %s", cache->path, strerror(errno));
    }
    n_bytes = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    if (n_bytes < sizeof(cache->foot)) {
        return ag_fail(AG_ERR_FORMAT, "%s is damaged: it is too short", cache->path);
    }
    status = read_at(cache, n_bytes - sizeof(cache->foot), sizeof(cache->foot), &cache->foot);
    return status == AG_OK ? check_foot(cache, n_bytes, key) : status;
}

ag_status_t ag_cache_open(const char *path, uint64_t key, ag_team_t *team,
                          const ag_cancel_t *cancel, ag_cache_t **cache_p)
{
    ag_cache_t *cache = calloc(1, sizeof(*cache));
    ag_status_t status;

    if (cache == NULL) {
        return ag_fail_nomem(path, sizeof(*cache));
    }
    cache->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    cache->path = strdup(path);
    if (cache->fd < 0 || cache->path == NULL) {
        status = cache->fd < 0 ? ag_fail_open(path) : ag_fail_nomem(path, strlen(path) + 1);
        goto close_cache;
    }
    status = read_foot(cache, key);
    if (status == AG_OK) {
        status = check_body(cache, team, cancel);
    }
    if (status == AG_OK) {
        status = check_docs(cache);
    }
    if (status != AG_OK) {
        goto close_cache;
    }
    *cache_p = cache;
    return AG_OK;

close_cache:
    ag_cache_close(cache);
    return status;
}

void ag_cache_close(ag_cache_t *cache)
{
    if (cache != NULL) {
        if (cache->fd >= 0) {
            close(cache->fd);
        }
        free(cache->path);
        free(cache);
    }
}
