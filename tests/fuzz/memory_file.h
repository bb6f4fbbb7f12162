/* The fuzzer's bytes as a file with a path, since the readers take paths; and what targets share.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEMORY_PATH_BYTES = 32 };

/** Make a file of the bytes. Its path, written to `path`, holds until the descriptor is closed. */
int memory_file(const uint8_t *bytes, size_t n_bytes, char path[MEMORY_PATH_BYTES]);

/** Write a file of a folder anew. */
void write_file(const char *folder, const char *name, const void *bytes, size_t n_bytes);

/** Abort, which the fuzzer takes for a finding, where this is not so. */
void expect(bool held);

/** Abort where the last error is not a line of text. */
void expect_one_line(void);

/* What libFuzzer calls; declared by nobody else. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);
