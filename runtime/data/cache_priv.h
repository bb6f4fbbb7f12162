/*
 * Files of what was tokenized: ids, documents, the stamps of the files they came from, and a foot
 * with counts and checksums. Written from front to back, aside, and read in parts.
 */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/team.h"
#include "runtime/data/document_priv.h"
#include "runtime/data/files_priv.h"

#define AG_CACHE_MAGIC "AGTOKENS"

enum { AG_CACHE_VERSION = 2 };

/* The last bytes of the file. */
typedef struct ag_cache_foot {
    uint64_t key; /* of all that ids depend on beside the files' content */
    uint64_t n_ids, n_docs, n_files;
    uint64_t n_replaced;
    int64_t begun_ns;   /* what the file system's clock said before the files were opened */
    uint64_t body_hash; /* of all before the foot */
    uint32_t version, reserved;
    char magic[8];
    uint64_t foot_hash; /* of the foot before it */
} ag_cache_foot_t;

typedef struct ag_cache ag_cache_t;

/**
 * Open and check all of it, on the team's threads (NULL: on the caller's).
 * @return AG_OK; AG_ERR_IO: it is not there; AG_ERR_FORMAT: damaged, or of another key or version;
 *         AG_ERR_NOMEM, AG_ERR_INTERRUPTED.
 */
ag_status_t ag_cache_open(const char *path, uint64_t key, ag_team_t *team,
                          const ag_cancel_t *cancel, ag_cache_t **cache_p);
void ag_cache_close(ag_cache_t *cache); /* NULL is allowed */

const ag_cache_foot_t *ag_cache_foot(const ag_cache_t *cache);

/** Parts that the file must have; from any thread. */
ag_status_t ag_cache_ids(const ag_cache_t *cache, uint64_t first, size_t n, int32_t *ids);
ag_status_t ag_cache_docs(const ag_cache_t *cache, uint64_t first, size_t n, ag_data_doc_t *docs);
ag_status_t ag_cache_stamps(const ag_cache_t *cache, ag_data_stamp_t *stamps); /* (n_files) */

/** The hash of a body, block by block. */
uint64_t ag_cache_hash(uint64_t hash, const void *block, size_t n_bytes);

typedef struct ag_cache_writer ag_cache_writer_t;

/** Begin a file; nothing may be read of the data's files before. @return AG_OK, AG_ERR_IO,
 * AG_ERR_INVALID, AG_ERR_NOMEM. */
ag_status_t ag_cache_create(const char *path, uint64_t key, ag_cache_writer_t **writer_p);

/** Append ids, and documents that begin among them: begin counts from the first of these ids. */
ag_status_t ag_cache_add(ag_cache_writer_t *writer, const int32_t *ids, size_t n_ids,
                         const ag_data_doc_t *docs, size_t n_docs);

/** Write the rest, fsync, rename. The writer is gone either way. */
ag_status_t ag_cache_complete(ag_cache_writer_t *writer, const ag_data_stamp_t *stamps,
                              size_t n_files, uint64_t n_replaced);
void ag_cache_discard(ag_cache_writer_t *writer); /* NULL is allowed */
