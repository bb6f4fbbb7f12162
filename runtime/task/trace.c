#include "runtime/task/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/ring.h"

struct ag_trace {
    ag_ring_t ring;
};

ag_status_t ag_trace_create(size_t capacity, ag_trace_t **trace_p)
{
    ag_trace_t *trace = calloc(1, sizeof(*trace));
    ag_status_t status;

    if (trace == NULL) {
        return ag_fail_nomem("making a trace", sizeof(*trace));
    }
    status = ag_ring_init(&trace->ring, sizeof(ag_trace_event_t), capacity);
    if (status != AG_OK) {
        free(trace);
        return status;
    }
    *trace_p = trace;
    return AG_OK;
}

void ag_trace_destroy(ag_trace_t *trace)
{
    if (trace != NULL) {
        ag_ring_fini(&trace->ring);
        free(trace);
    }
}

void ag_trace_add(ag_trace_t *trace, const ag_trace_event_t *event)
{
    if (trace != NULL) {
        memcpy(ag_ring_push(&trace->ring), event, sizeof(*event));
    }
}

ag_status_t ag_trace_write(const ag_trace_t *trace, FILE *file, uint32_t rank,
                           const char *const *track_names, uint32_t n_tracks)
{
    fprintf(
        file,
        "{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\",\"args\":{\"name\":\"rank %u\"}},\n",
        rank, rank);
    for (uint32_t i = 0; i < n_tracks; i++) {
        fprintf(file,
                "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\","
                "\"args\":{\"name\":\"%s\"}},\n",
                rank, i, track_names[i]);
    }
    for (size_t i = 0; i < ag_ring_size(&trace->ring); i++) {
        const ag_trace_event_t *event = ag_ring_at(&trace->ring, i);

        fprintf(file,
                "{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"name\":\"%s\",\"ts\":%.3f,\"dur\":%.3f,"
                "\"args\":{\"detail\":%u}},\n",
                rank, event->track, event->name, (double)event->begin_ns / 1e3,
                (double)(event->end_ns - event->begin_ns) / 1e3, event->detail);
    }
    if (ferror(file)) {
        return ag_fail(AG_ERR_IO, "writing the trace of rank %u: %s", rank, strerror(errno));
    }
    return AG_OK;
}
