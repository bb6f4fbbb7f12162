/* What ran when, as the Chrome trace format draws it (chrome://tracing, Perfetto). */
#pragma once

#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/base/status.h"

typedef struct ag_trace ag_trace_t;

typedef struct ag_trace_event {
    const char *name; /* must outlive the trace */
    const char *type; /* of what it works on; NULL: of nothing */
    uint32_t track;   /* the stream */
    uint32_t detail;  /* layer, or what the name says */
    uint64_t begin_ns, end_ns;
} ag_trace_event_t;

/** @param capacity  events held; the oldest are dropped when more come. */
ag_status_t ag_trace_create(size_t capacity, ag_trace_t **trace_p);
void ag_trace_destroy(ag_trace_t *trace); /* NULL is allowed */

void ag_trace_add(ag_trace_t *trace, const ag_trace_event_t *event); /* trace may be NULL */

/** From now on events are dropped, or held again. @param trace  may be NULL. */
void ag_trace_rest(ag_trace_t *trace, bool rests);

/** When the first of the events that are held began; UINT64_MAX: there are none. */
uint64_t ag_trace_begin_ns(const ag_trace_t *trace);

/**
 * Append the events of one rank, oldest first, as JSON objects, each followed by ",\n" (the array's
 * brackets are the caller's, so that ranks can share a file), and flush them.
 * @param origin_ns    which moment is written as 0; no event began before it.
 * @param track_names  (n_tracks) what the streams are called.
 * @return AG_OK, AG_ERR_IO: the file did not take all of it.
 */
ag_status_t ag_trace_write(const ag_trace_t *trace, FILE *file, uint32_t rank, uint64_t origin_ns,
                           const char *const *track_names, uint32_t n_tracks);
