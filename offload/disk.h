/* What the disk under a folder can do. */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

typedef struct ag_disk_rates {
    double read_bytes_per_s, write_bytes_per_s;
} ag_disk_rates_t;

/** Could ag_disk_measure() do it? @return as that does. */
ag_status_t ag_disk_check(const char *dir, uint64_t n_bytes);

/**
 * Write a file and read it back, past the page cache: O_DIRECT, 1 MiB at a time, 16 in flight. The
 * file has no name, so that nothing is left of it whatever happens.
 * @param n_bytes  of the file; whole MiB.
 * @param cancel   looked at between blocks: AG_ERR_INTERRUPTED; NULL: none.
 * @return AG_OK; AG_ERR_IO: the folder cannot be written, has too little room, or what the disk
 *         said; AG_ERR_UNSUPPORTED: its file system has no such files, or the kernel no io_uring.
 */
ag_status_t ag_disk_measure(const char *dir, uint64_t n_bytes, const ag_clock_t *clock,
                            const ag_cancel_t *cancel, ag_disk_rates_t *rates_p);
