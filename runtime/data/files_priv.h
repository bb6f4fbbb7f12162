/* Files of data: what kind they are, and their bytes, block by block. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_data_kind { AG_DATA_LINES, AG_DATA_TEXT, AG_DATA_IDS } ag_data_kind_t;

/* What tells one state of a file from another. Stands so in cache files. */
typedef struct ag_data_stamp {
    uint64_t n_bytes;
    int64_t modified_ns, changed_ns; /* mtime, ctime */
    uint64_t hash;                   /* of the bytes that were read so far */
} ag_data_stamp_t;

enum { AG_DATA_BLOCK_BYTES = 1 << 20 };

typedef struct ag_data_file {
    const char *path; /* borrowed */
    int fd;
    ag_data_kind_t kind;
    ag_data_stamp_t stamp;
    uint64_t at_bytes; /* read so far */
} ag_data_file_t;

/**
 * Open a file and find its kind, by its content, then by its name.
 * @return AG_OK; AG_ERR_IO: not there, or no regular file; AG_ERR_FORMAT: empty, or of a kind that
 *         is not read.
 */
ag_status_t ag_data_file_open(const char *path, ag_data_file_t *file);
void ag_data_file_close(ag_data_file_t *file);

/** Append the next block, shorter than the others only at the end. @param end_p out: that is all.
 */
ag_status_t ag_data_file_block(ag_data_file_t *file, ag_array_t *bytes, bool *end_p);

/** Was the file left alone while it was read? @return AG_OK, AG_ERR_IO. */
ag_status_t ag_data_file_check(const ag_data_file_t *file);
