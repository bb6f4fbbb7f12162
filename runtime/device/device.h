/*
 * A device: memory, and streams of work that run in order. The CPU is the reference. What is
 * launched on it is a region for its team; a device of another kind runs the same list of nodes its
 * own way.
 */
#pragma once

#include <stdbool.h>

#include "runtime/base/team.h"
#include "runtime/mem/region.h"

typedef struct ag_device ag_device_t;

/* Streams that a device has at least: those of a program, and its owner's own. */
enum { AG_DEVICE_STREAMS = 16 };

/* All that was queued on a stream up to some moment. */
typedef struct ag_mark {
    uint32_t stream;
    uint64_t n; /* of its work, counted by the device */
} ag_mark_t;

/* Streams are below AG_DEVICE_STREAMS. One thread at a time calls a device. */
typedef struct ag_device_ops {
    const char *name;
    /** Nothing is under way. */
    void (*close)(ag_device_t *device);
    /**
     * Zeroed memory, in the ledger before it is taken.
     * @param share_bytes  each of the device's threads touches its ag_worker_share() in multiples
     *                     of so many bytes; 0: whoever fills the memory touches it.
     */
    ag_status_t (*alloc)(ag_device_t *device, const char *part, size_t bytes, size_t share_bytes,
                         ag_region_t *region_p);
    /** The host's memory that copies come from and go to; to be freed like the device's. */
    ag_status_t (*alloc_host)(ag_device_t *device, const char *part, size_t bytes,
                              ag_region_t *region_p); /* NULL as the copies */
    /** Nothing is under way; a zeroed region is allowed. */
    void (*free)(ag_device_t *device, ag_region_t *region);
    /**
     * Queue a region on a stream. What fn works on is the device's memory; arg, and what describes
     * the work or takes its figures (graphs, offsets, profiles), is the host's, and must last until
     * the work is complete.
     */
    ag_status_t (*launch)(ag_device_t *device, uint32_t stream, ag_region_fn_t fn, void *arg);
    /** Queue a copy between host and device; the host's bytes must stay until it is complete. NULL,
     * both: the host may touch the device's memory itself. */
    ag_status_t (*copy_in)(ag_device_t *device, uint32_t stream, void *to, const void *from,
                           size_t bytes);
    ag_status_t (*copy_out)(ag_device_t *device, uint32_t stream, void *to, const void *from,
                            size_t bytes);
    /* NULL, all three: what was queued is complete when the call that queued it returns. */
    ag_mark_t (*record)(ag_device_t *device, uint32_t stream);
    /** What is queued on the stream from now on waits for what a mark stands for. */
    ag_status_t (*wait)(ag_device_t *device, uint32_t stream, ag_mark_t mark);
    /** AG_OK when all that a mark stands for is complete, AG_PENDING, or the failure. */
    ag_status_t (*query)(ag_device_t *device, ag_mark_t mark);
} ag_device_ops_t;

struct ag_device {
    const ag_device_ops_t *ops;
    ag_ledger_t *ledger; /* borrowed */
};

/** The CPU, working with a team (borrowed). */
ag_status_t ag_device_cpu_open(ag_team_t *team, ag_ledger_t *ledger, ag_device_t **device_p);

void ag_device_close(ag_device_t *device); /* NULL is allowed */

/** May the host touch the device's memory? Then there are no copies. */
static inline bool ag_device_is_host(const ag_device_t *device)
{
    return device->ops->copy_in == NULL;
}

/* The same as the table's, for every device. */
ag_mark_t ag_device_record(ag_device_t *device, uint32_t stream);
ag_status_t ag_device_wait(ag_device_t *device, uint32_t stream, ag_mark_t mark);
ag_status_t ag_device_query(ag_device_t *device, ag_mark_t mark);

/** Return when all that was queued on a stream is complete. @return AG_OK, or the failure. */
ag_status_t ag_device_finish(ag_device_t *device, uint32_t stream);
