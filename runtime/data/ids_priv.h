/* Token ids of .npy files as rows: sample i of a file is its seq_length + 1 ids from i x seq_length
 * on. */
#pragma once

#include "runtime/data/dataset.h"

typedef struct ag_data_ids ag_data_ids_t;

/** Open the files of opts and check every id. @return as ag_dataset_open(). */
ag_status_t ag_data_ids_open(const ag_dataset_opts_t *opts, ag_data_ids_t **ids_p);
void ag_data_ids_close(ag_data_ids_t *ids); /* NULL is allowed */

uint64_t ag_data_ids_count(const ag_data_ids_t *ids); /* of ids */
uint64_t ag_data_ids_rows(const ag_data_ids_t *ids);
uint64_t ag_data_ids_hash(const ag_data_ids_t *ids); /* of all ids, and of where files end */

/** @param tokens  out: (seq_length + 1). @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT. */
ag_status_t ag_data_ids_row(const ag_data_ids_t *ids, uint64_t row, int32_t *tokens);
