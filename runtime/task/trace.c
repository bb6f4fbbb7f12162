#include "runtime/task/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/ring.h"

struct ag_trace {
    ag_ring_t ring;
    bool rests;
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
    if (trace != NULL && !trace->rests) {
        memcpy(ag_ring_push(&trace->ring), event, sizeof(*event));
    }
}

void ag_trace_rest(ag_trace_t *trace, bool rests)
{
    if (trace != NULL) {
        trace->rests = rests;
    }
}

/* The times of a trace are microseconds, with three digits behind the point. */
static void write_us(FILE *file, const char *key, uint64_t ns)
{
    fprintf(file, ",\"%s\":%" PRIu64 ".%03u", key, ns / 1000, (unsigned)(ns % 1000));
}

static void write_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\') {
            fprintf(file, "\\%c", byte);
        } else if (byte < 0x20) {
            fprintf(file, "\\u%04x", byte);
        } else {
            fputc(byte, file);
        }
    }
    fputc('"', file);
}

static void write_event(FILE *file, uint32_t rank, uint64_t origin_ns,
                        const ag_trace_event_t *event)
{
    fprintf(file, "{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"name\":", rank, event->track);
    write_string(file, event->name);
    write_us(file, "ts", event->begin_ns - origin_ns);
    write_us(file, "dur", event->end_ns - event->begin_ns);
    fprintf(file, ",\"args\":{\"detail\":%u", event->detail);
    if (event->type != NULL) {
        fputs(",\"type\":", file);
        write_string(file, event->type);
    }
    fputs("}},\n", file);
}

uint64_t ag_trace_begin_ns(const ag_trace_t *trace)
{
    uint64_t first_ns = UINT64_MAX;

    for (size_t i = 0; i < ag_ring_size(&trace->ring); i++) { /* they are in the order of ends */
        const ag_trace_event_t *event = ag_ring_at(&trace->ring, i);

        first_ns = event->begin_ns < first_ns ? event->begin_ns : first_ns;
    }
    return first_ns;
}

ag_status_t ag_trace_write(const ag_trace_t *trace, FILE *file, uint32_t rank, uint64_t origin_ns,
                           const char *const *track_names, uint32_t n_tracks)
{
    fprintf(file,
            "{\"ph\":\"M\",\"pid\":%u,\"name\":\"process_name\","
            "\"args\":{\"name\":\"rank %u\"}},\n",
            rank, rank);
    for (uint32_t i = 0; i < n_tracks; i++) {
        fprintf(file,
                "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"thread_name\","
                "\"args\":{\"name\":",
                rank, i);
        write_string(file, track_names[i]);
        fputs("}},\n", file);
    }
    for (size_t i = 0; i < ag_ring_size(&trace->ring); i++) {
        write_event(file, rank, origin_ns, ag_ring_at(&trace->ring, i));
    }
    if (fflush(file) != 0 || ferror(file)) {
        return ag_fail(AG_ERR_IO, "writing the trace: %s", strerror(errno));
    }
    return AG_OK;
}
