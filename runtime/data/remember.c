/* Is there a cache file of these data, and is it still right? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/data/dataset_priv.h"
#include "runtime/data/make_priv.h"

/* Stamps of a file that was changed so shortly before it was read may not show a further change. */
static const int64_t doubtful_ns = 2000000000;

/* What decides on ids beside the files' content. Where files lie only keeps their caches apart. */
static uint64_t find_key(const ag_dataset_opts_t *opts)
{
    uint64_t words[] = {AG_CACHE_VERSION, ag_tokenizer_fingerprint(opts->tokenizer),
                        ag_chat_opts_fingerprint(&opts->chat), opts->vocab_size, opts->n_paths};
    uint64_t hash = ag_hash_bytes(AG_HASH_SEED, words, sizeof(words));

    for (size_t i = 0; i < opts->n_paths; i++) {
        char *whole = realpath(opts->paths[i], NULL);
        const char *path = whole != NULL ? whole : opts->paths[i];

        hash = ag_hash_bytes(hash, path, strlen(path) + 1);
        free(whole);
    }
    return ag_hash_mix(hash);
}

/* Make the folder, and those that it lies in. */
static ag_status_t make_folder(const char *dir)
{
    char *path = strdup(dir);
    ag_status_t status = path != NULL ? AG_OK : ag_fail_nomem(dir, strlen(dir) + 1);

    for (char *at = path; status == AG_OK && at != NULL && *at != '\0';) {
        char *end = at + 1 + strcspn(at + 1, "/"), was = *end;

        *end = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            status = ag_fail(AG_ERR_IO, "making the folder %s: %s", path, strerror(errno));
        }
        *end = was;
        at = was != '\0' ? end : NULL;
    }
    free(path);
    return status;
}

static ag_status_t hash_file(ag_data_file_t *file, const ag_cancel_t *cancel)
{
    ag_array_t block = AG_ARRAY(char);
    bool is_end = false;
    ag_status_t status = AG_OK;

    while (status == AG_OK && !is_end) {
        block.n_items = 0;
        status = ag_cancel_is_asked(cancel)
                     ? ag_fail(AG_ERR_INTERRUPTED, "interrupted while reading %s", file->path)
                     : ag_data_file_block(file, &block, &is_end);
    }
    ag_array_fini(&block);
    return status;
}

/* Is the file what it was? Its bytes are read where its stamps leave that open. */
static ag_status_t compare_file(const char *path, const ag_data_stamp_t *was, int64_t begun_ns,
                                const ag_cancel_t *cancel, bool *same_p)
{
    ag_data_file_t file;
    ag_status_t status = ag_data_file_open(path, &file);

    if (status != AG_OK) {
        return status;
    }
    if (file.stamp.n_bytes != was->n_bytes) {
        *same_p = false;
    } else if (file.stamp.modified_ns != was->modified_ns ||
               file.stamp.changed_ns != was->changed_ns ||
               was->modified_ns > begun_ns - doubtful_ns ||
               was->changed_ns > begun_ns - doubtful_ns) {
        status = hash_file(&file, cancel);
        *same_p = file.stamp.hash == was->hash;
    }
    ag_data_file_close(&file);
    return status;
}

/* @param same_p  out: all files are those that the cache was made from. */
static ag_status_t compare_files(const ag_dataset_opts_t *opts, const ag_cache_t *cache,
                                 uint64_t *content_p, bool *same_p)
{
    const ag_cache_foot_t *foot = ag_cache_foot(cache);
    ag_data_stamp_t *stamps;
    ag_status_t status;

    *same_p = foot->n_files == opts->n_paths;
    if (!*same_p) {
        return AG_OK;
    }
    stamps = calloc(opts->n_paths, sizeof(*stamps));
    status = stamps != NULL ? ag_cache_stamps(cache, stamps)
                            : ag_fail_nomem("reading a cache", opts->n_paths * sizeof(*stamps));
    *content_p = AG_HASH_SEED;
    for (size_t i = 0; i < opts->n_paths && status == AG_OK && *same_p; i++) {
        status = compare_file(opts->paths[i], &stamps[i], foot->begun_ns, opts->cancel, same_p);
        *content_p = ag_hash_bytes(*content_p, &stamps[i].hash, sizeof(stamps[i].hash));
    }
    free(stamps);
    return status;
}

static ag_status_t make_cache(const ag_dataset_opts_t *opts, const char *path, uint64_t key)
{
    ag_doc_rules_t rules = {.tokenizer = opts->tokenizer, .vocab_size = opts->vocab_size};
    char trouble[1024] = "";
    ag_chat_t *chat = NULL;
    ag_status_t status = make_folder(opts->cache_dir);

    if (status != AG_OK) {
        return status;
    }
    rules.chat_status =
        ag_chat_open(opts->tokenizer, &opts->chat, &chat); /* only dialogues need one */
    if (rules.chat_status != AG_OK) {
        snprintf(trouble, sizeof(trouble), "%s", ag_error());
    }
    if (ag_tokenizer_eos(opts->tokenizer) < 0) {
        ag_log(AG_LOG_WARNING, "the tokenizer names no end of a text: a model that learns from "
                               "these documents does not learn to end");
    }
    rules.chat = chat;
    rules.chat_trouble = trouble;
    status = ag_data_make(opts, &rules, path, key);
    ag_chat_close(chat);
    return status;
}

/* The cache, if it is there and whole and of these files; else *cache_p is NULL. */
static ag_status_t try_cache(const ag_dataset_opts_t *opts, const char *path, uint64_t key,
                             ag_cache_t **cache_p, uint64_t *content_p)
{
    ag_cache_t *cache = NULL;
    bool same = false;
    ag_status_t status = ag_cache_open(path, key, opts->team, opts->cancel, &cache);

    *cache_p = NULL;
    if (status == AG_ERR_FORMAT) {
        ag_log(AG_LOG_WARNING, "%s: it is made again", ag_error());
    }
    if (status == AG_ERR_FORMAT || status == AG_ERR_IO) {
        return AG_OK;
    }
    if (status == AG_OK) {
        status = compare_files(opts, cache, content_p, &same);
    }
    if (status == AG_OK && same) {
        *cache_p = cache;
        return AG_OK;
    }
    ag_cache_close(cache);
    return status;
}

ag_status_t ag_data_cache(const ag_dataset_opts_t *opts, ag_cache_t **cache_p, uint64_t *content_p,
                          bool *made_p)
{
    char path[4096];
    uint64_t key = find_key(opts);
    int n =
        snprintf(path, sizeof(path), "%s/%016llx.tokens", opts->cache_dir, (unsigned long long)key);
    ag_status_t status;

    if (n >= (int)sizeof(path)) {
        return ag_fail(AG_ERR_INVALID, "the name of the cache's folder is too long: %.64s…",
                       opts->cache_dir);
    }
    *made_p = false;
    status = try_cache(opts, path, key, cache_p, content_p);
    if (status != AG_OK || *cache_p != NULL) {
        return status;
    }
    *made_p = true;
    status = make_cache(opts, path, key);
    if (status == AG_OK) {
        status = try_cache(opts, path, key, cache_p, content_p);
    }
    if (status == AG_OK && *cache_p == NULL) {
        status = ag_fail(AG_ERR_IO,
                         "%s is not what was written to it, or the data changed meanwhile: start "
                         "again, or choose another folder",
                         path);
    }
    return status;
}
