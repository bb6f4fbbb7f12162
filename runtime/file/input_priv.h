/* A file that is read from its start, every step checked against the bytes that are there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the formats read here are little endian and are copied as they stand"
#endif

enum { AG_INPUT_WINDOW_BYTES = 64 * 1024, AG_INPUT_PART_BYTES = 192 };

typedef struct ag_input {
    const char *path; /* borrowed */
    int fd;
    uint64_t file_bytes;
    uint64_t at_bytes; /* of the next byte to be taken */
    unsigned char *window;
    size_t window_begin; /* the bytes at_bytes … are window[window_begin .. window_end) */
    size_t window_end;
    char part[AG_INPUT_PART_BYTES]; /* what is being read, for errors */
} ag_input_t;

/** Open a regular file. @return AG_OK, AG_ERR_IO (missing, a folder, a device), AG_ERR_NOMEM. */
ag_status_t ag_input_open(ag_input_t *input, const char *path);
void ag_input_close(ag_input_t *input);

/** Say what the next bytes are; the error of a file that ends too early repeats it. */
void ag_input_name_part(ag_input_t *input, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline uint64_t ag_input_left_bytes(const ag_input_t *input)
{
    return input->file_bytes - input->at_bytes;
}

/**
 * Check that n items of at least item_bytes each can still follow, before room is made for them.
 * @return AG_OK, AG_ERR_FORMAT.
 */
ag_status_t ag_input_expect(const ag_input_t *input, uint64_t n, uint64_t item_bytes);

/** Copy the next n_bytes. @return AG_OK, AG_ERR_FORMAT (the file ends before), AG_ERR_IO. */
ag_status_t ag_input_take(ag_input_t *input, void *dst, size_t n_bytes);

/**
 * Fail because the file is not of the format that was expected: "PATH why (it begins with …)".
 * @return AG_ERR_FORMAT, AG_ERR_IO.
 */
ag_status_t ag_input_refuse(const ag_input_t *input, const char *why);

/** Open a regular file for reading. @return AG_OK, AG_ERR_IO. */
ag_status_t ag_file_open(const char *path, int *fd_p, uint64_t *file_bytes_p);

/** pread exactly n bytes. @param part  what they are, for errors. @return AG_OK, AG_ERR_IO. */
ag_status_t ag_file_pread(int fd, const char *path, const char *part, uint64_t offset_bytes,
                          uint64_t n_bytes, void *dst);
