/* Making a cache file: files are read block by block and tokenized by all threads of a team. */
#pragma once

#include "runtime/data/cache_priv.h"
#include "runtime/data/dataset.h"

/**
 * Tokenize the files of opts into a cache file at path, which is complete or not there.
 * @param rules  as opts have them.
 * @return as ag_dataset_open().
 */
ag_status_t ag_data_make(const ag_dataset_opts_t *opts, const ag_doc_rules_t *rules,
                         const char *path, uint64_t key);

/**
 * Where a text may be cut so that its parts have the ids of the whole: the last such place up to
 * `at`, looked for not before `from`; 0: there is none.
 */
size_t ag_data_find_cut(const ag_doc_rules_t *rules, const char *text, size_t n_bytes, size_t from,
                        size_t at);
