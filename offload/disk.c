#define _GNU_SOURCE
#include "offload/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20, IN_FLIGHT = 16, PAGE_BYTES = 4096 };

typedef struct probe {
    const char *dir;
    const ag_cancel_t *cancel;
    int fd;
    struct io_uring ring;
    unsigned char *blocks; /* (IN_FLIGHT, BLOCK_BYTES) */
    uint64_t n_blocks;
} probe_t;

static void post(probe_t *probe, bool writes, uint64_t block, uint64_t slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&probe->ring); /* the ring has one for each slot */
    unsigned char *bytes = probe->blocks + slot * BLOCK_BYTES;

    if (writes) {
        io_uring_prep_write(sqe, probe->fd, bytes, BLOCK_BYTES, block * BLOCK_BYTES);
    } else {
        io_uring_prep_read(sqe, probe->fd, bytes, BLOCK_BYTES, block * BLOCK_BYTES);
    }
    io_uring_sqe_set_data64(sqe, slot);
}

static ag_status_t fail(const probe_t *probe, bool writes, const char *why)
{
    return ag_fail(AG_ERR_IO, "%s a file in %s: %s", writes ? "writing" : "reading", probe->dir,
                   why);
}

/* Hand over what was posted. @param n_flying_p  added to: what the kernel took. */
static ag_status_t submit(probe_t *probe, bool writes, uint64_t *n_flying_p)
{
    while (io_uring_sq_ready(&probe->ring) > 0) {
        int result = io_uring_submit(&probe->ring);

        if (result <= 0 && result != -EINTR) {
            return fail(probe, writes, result < 0 ? strerror(-result) : "io_uring takes no more");
        }
        *n_flying_p += result > 0 ? (uint64_t)result : 0;
    }
    return AG_OK;
}

/* The next completion's slot. @param flies_p  out: there was none, and waiting failed. */
static ag_status_t take(probe_t *probe, bool writes, uint64_t *slot_p, bool *flies_p)
{
    struct io_uring_cqe *cqe;
    int result;

    do { /* a signal is no completion: the block is the kernel's until there is one */
        result = io_uring_wait_cqe(&probe->ring, &cqe);
    } while (result == -EINTR);
    *flies_p = result != 0;
    if (result == 0) {
        result = cqe->res;
        *slot_p = io_uring_cqe_get_data64(cqe);
        io_uring_cqe_seen(&probe->ring, cqe);
    }
    if (result == BLOCK_BYTES) {
        return AG_OK;
    }
    return fail(probe, writes, result < 0 ? strerror(-result) : "a block was cut short");
}

/* All blocks once, in order. */
static ag_status_t pass(probe_t *probe, bool writes, const ag_clock_t *clock, double *rate_p)
{
    uint64_t begin_ns = ag_clock_now_ns(clock), n_posted = 0, n_flying = 0;
    bool lost = false;
    ag_status_t status, taken;

    for (; n_posted < IN_FLIGHT && n_posted < probe->n_blocks; n_posted++) {
        post(probe, writes, n_posted, n_posted);
    }
    status = submit(probe, writes, &n_flying);
    while (n_flying > 0 && !lost) { /* all come back, whatever happens: the blocks are theirs */
        uint64_t slot = 0;

        taken = take(probe, writes, &slot, &lost);
        status = status == AG_OK ? taken : status;
        n_flying--;
        if (status == AG_OK && ag_cancel_is_asked(probe->cancel)) {
            status = ag_fail(AG_ERR_INTERRUPTED, "interrupted while measuring the disk of %s",
                             probe->dir);
        }
        if (status == AG_OK && n_posted < probe->n_blocks) {
            post(probe, writes, n_posted++, slot);
            status = submit(probe, writes, &n_flying);
        }
    }
    if (status == AG_OK && writes && fdatasync(probe->fd) != 0) {
        status = fail(probe, writes, strerror(errno));
    }
    *rate_p = (double)(probe->n_blocks * BLOCK_BYTES) /
              ((double)(ag_clock_now_ns(clock) - begin_ns) * 1e-9);
    return status;
}

static ag_status_t open_file(probe_t *probe)
{
    struct statvfs info;

    probe->fd = open(probe->dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (probe->fd < 0) {
        return ag_fail(errno == EOPNOTSUPP || errno == EINVAL ? AG_ERR_UNSUPPORTED : AG_ERR_IO,
                       "a file for O_DIRECT cannot be made in %s: %s", probe->dir, strerror(errno));
    }
    if (fstatvfs(probe->fd, &info) == 0 &&
        (uint64_t)info.f_bavail * info.f_frsize < 2 * probe->n_blocks * BLOCK_BYTES) {
        close(probe->fd);
        return ag_fail(AG_ERR_IO, "%s has less than %llu MiB of room: give another folder",
                       probe->dir, (unsigned long long)(2 * probe->n_blocks));
    }
    return AG_OK;
}

ag_status_t ag_disk_check(const char *dir, uint64_t n_bytes)
{
    probe_t probe = {.dir = dir, .n_blocks = n_bytes / BLOCK_BYTES};
    ag_status_t status = open_file(&probe);

    if (status == AG_OK) {
        close(probe.fd);
    }
    return status;
}

ag_status_t ag_disk_measure(const char *dir, uint64_t n_bytes, const ag_clock_t *clock,
                            const ag_cancel_t *cancel, ag_disk_rates_t *rates_p)
{
    probe_t probe = {.dir = dir, .cancel = cancel, .n_blocks = n_bytes / BLOCK_BYTES};
    ag_status_t status = open_file(&probe);
    int result;

    if (status != AG_OK) {
        return status;
    }
    probe.blocks = aligned_alloc(PAGE_BYTES, (size_t)IN_FLIGHT * BLOCK_BYTES);
    if (probe.blocks == NULL) {
        status = ag_fail_nomem("measuring a disk", (size_t)IN_FLIGHT * BLOCK_BYTES);
        goto close_file;
    }
    memset(probe.blocks, 0x5a, (size_t)IN_FLIGHT * BLOCK_BYTES);
    result = io_uring_queue_init(IN_FLIGHT, &probe.ring, 0);
    if (result != 0) {
        status = ag_fail(AG_ERR_UNSUPPORTED, "io_uring cannot be used here: %s", strerror(-result));
        goto free_blocks;
    }
    status = pass(&probe, true, clock, &rates_p->write_bytes_per_s);
    if (status == AG_OK) {
        status = pass(&probe, false, clock, &rates_p->read_bytes_per_s);
    }
    io_uring_queue_exit(&probe.ring);
free_blocks:
    free(probe.blocks);
close_file:
    close(probe.fd);
    return status;
}
