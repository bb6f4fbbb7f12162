#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/hash.h"
#include "runtime/base/xxh64.h"
#include "runtime/data/cache_priv.h"
#include "runtime/file/aside.h"

struct ag_cache_writer {
    ag_aside_t *aside;
    char *path; /* for errors */
    ag_cache_foot_t foot;
    ag_array_t docs; /* ag_data_doc_t: they come behind the ids */
    size_t n_block;
    unsigned char block[AG_DATA_BLOCK_BYTES]; /* what is hashed at once */
};

static ag_status_t flush_block(ag_cache_writer_t *writer)
{
    size_t n = writer->n_block;

    writer->n_block = 0;
    writer->foot.body_hash = ag_cache_hash(writer->foot.body_hash, writer->block, n);
    if (fwrite(writer->block, 1, n, ag_aside_stream(writer->aside)) != n) {
        return ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
    }
    return AG_OK;
}

static ag_status_t write_body(ag_cache_writer_t *writer, const void *bytes, size_t n_bytes)
{
    const unsigned char *from = bytes;
    ag_status_t status = AG_OK;

    while (status == AG_OK && n_bytes > 0) {
        size_t room = sizeof(writer->block) - writer->n_block;
        size_t n = n_bytes < room ? n_bytes : room;

        memcpy(writer->block + writer->n_block, from, n);
        writer->n_block += n;
        from += n;
        n_bytes -= n;
        if (writer->n_block == sizeof(writer->block)) {
            status = flush_block(writer);
        }
    }
    return status;
}

ag_status_t ag_cache_create(const char *path, uint64_t key, ag_cache_writer_t **writer_p)
{
    ag_cache_writer_t *writer = malloc(sizeof(*writer));
    struct stat info;
    ag_status_t status;

    if (writer == NULL) {
        return ag_fail_nomem(path, sizeof(*writer));
    }
    writer->docs = AG_ARRAY(ag_data_doc_t);
    writer->n_block = 0;
    writer->path = strdup(path);
    status = writer->path == NULL ? ag_fail_nomem(path, strlen(path) + 1)
                                  : ag_aside_open(path, &writer->aside);
    if (status != AG_OK) {
        free(writer->path);
        free(writer);
        return status;
    }
    if (fstat(fileno(ag_aside_stream(writer->aside)), &info) != 0) {
        status = ag_fail(AG_ERR_IO, "looking at %s: %s", path, strerror(errno));
        ag_cache_discard(writer);
        return status;
    }
    writer->foot = (ag_cache_foot_t){
        .key = key,
        .begun_ns = info.st_mtim.tv_sec * 1000000000LL + info.st_mtim.tv_nsec,
        .body_hash = AG_HASH_SEED,
        .version = AG_CACHE_VERSION,
    };
    memcpy(writer->foot.magic, AG_CACHE_MAGIC, sizeof(writer->foot.magic));
    *writer_p = writer;
    return AG_OK;
}

ag_status_t ag_cache_add(ag_cache_writer_t *writer, const int32_t *ids, size_t n_ids,
                         const ag_data_doc_t *docs, size_t n_docs)
{
    size_t first = writer->docs.n_items;
    ag_status_t status = ag_array_append(&writer->docs, docs, n_docs);

    if (status != AG_OK) {
        return status;
    }
    for (size_t i = first; i < writer->docs.n_items; i++) {
        AG_ITEMS(&writer->docs, ag_data_doc_t)[i].begin += writer->foot.n_ids;
    }
    writer->foot.n_ids += n_ids;
    writer->foot.n_docs += n_docs;
    return write_body(writer, ids, n_ids * sizeof(*ids));
}

static void free_writer(ag_cache_writer_t *writer)
{
    ag_array_fini(&writer->docs);
    free(writer->path);
    free(writer);
}

ag_status_t ag_cache_complete(ag_cache_writer_t *writer, const ag_data_stamp_t *stamps,
                              size_t n_files, uint64_t n_replaced)
{
    ag_cache_foot_t *foot = &writer->foot;
    ag_status_t status =
        write_body(writer, writer->docs.items, writer->docs.n_items * sizeof(ag_data_doc_t));

    if (status == AG_OK) {
        status = write_body(writer, stamps, n_files * sizeof(*stamps));
    }
    if (status == AG_OK && writer->n_block > 0) {
        status = flush_block(writer);
    }
    foot->n_files = n_files;
    foot->n_replaced = n_replaced;
    foot->foot_hash = ag_xxh64(foot, offsetof(ag_cache_foot_t, foot_hash));
    if (status == AG_OK && fwrite(foot, sizeof(*foot), 1, ag_aside_stream(writer->aside)) != 1) {
        status = ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
    }
    if (status != AG_OK) {
        ag_cache_discard(writer);
        return status;
    }
    status = ag_aside_complete(writer->aside);
    free_writer(writer);
    return status;
}

void ag_cache_discard(ag_cache_writer_t *writer)
{
    if (writer != NULL) {
        ag_aside_discard(writer->aside);
        free_writer(writer);
    }
}
