#include "runtime/text/stream.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"

void ag_text_stream_init(ag_text_stream_t *stream, const char *const *stops, uint32_t n_stops)
{
    *stream = (ag_text_stream_t){.stops = stops, .n_stops = n_stops, .held = AG_ARRAY(char)};
}

void ag_text_stream_fini(ag_text_stream_t *stream)
{
    ag_array_fini(&stream->held);
}

/* Where the stop text begins that is the first to be complete; n_bytes where none is. */
static size_t find_stop(const ag_text_stream_t *stream, const char *bytes, size_t n_bytes)
{
    for (size_t end = 1; end <= n_bytes; end++) {
        size_t longest = 0;

        for (uint32_t i = 0; i < stream->n_stops; i++) {
            size_t n = strlen(stream->stops[i]);

            if (n > longest && n <= end && memcmp(bytes + end - n, stream->stops[i], n) == 0) {
                longest = n;
            }
        }
        if (longest > 0) {
            return end - longest;
        }
    }
    return n_bytes;
}

/* Where a stop text may have begun that is not complete yet. */
static size_t find_beginning(const ag_text_stream_t *stream, const char *bytes, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes; at++) {
        for (uint32_t i = 0; i < stream->n_stops; i++) {
            if (strlen(stream->stops[i]) > n_bytes - at &&
                memcmp(bytes + at, stream->stops[i], n_bytes - at) == 0) {
                return at;
            }
        }
    }
    return n_bytes;
}

/* Up to where bytes are whole characters, or broken beyond repair. */
static size_t whole_characters(const char *bytes, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes;) {
        size_t bad_bytes;
        bool is_short;
        size_t length = ag_utf8_sequence(bytes + at, n_bytes - at, &bad_bytes, &is_short);

        if (length == 0 && is_short) {
            return at;
        }
        at += length > 0 ? length : bad_bytes;
    }
    return n_bytes;
}

static ag_status_t give_out(ag_text_stream_t *stream, size_t n_bytes, ag_array_t *text)
{
    char *held = AG_ITEMS(&stream->held, char), *repaired;
    size_t n_repaired;
    ag_status_t status;

    if (n_bytes == 0) {
        return AG_OK;
    }
    status = ag_utf8_repair(held, n_bytes, &repaired, &n_repaired, NULL);
    if (status != AG_OK) {
        return status;
    }
    status = ag_array_append(text, repaired, n_repaired);
    free(repaired);
    memmove(held, held + n_bytes, stream->held.n_items - n_bytes);
    stream->held.n_items -= n_bytes;
    return status;
}

ag_status_t ag_text_stream_push(ag_text_stream_t *stream, const char *bytes, size_t n_bytes,
                                ag_array_t *text)
{
    ag_status_t status = stream->stopped ? AG_OK : ag_array_append(&stream->held, bytes, n_bytes);
    const char *held = AG_ITEMS(&stream->held, char);
    size_t n_held = stream->held.n_items, stop, certain;

    if (status != AG_OK || stream->stopped || n_held == 0) {
        return status;
    }
    stop = find_stop(stream, held, n_held);
    if (stop < n_held) {
        stream->stopped = true;
        status = give_out(stream, stop, text);
        stream->held.n_items = 0;
        return status;
    }
    certain = find_beginning(stream, held, n_held);
    return give_out(stream, whole_characters(held, certain), text);
}

ag_status_t ag_text_stream_flush(ag_text_stream_t *stream, ag_array_t *text)
{
    return give_out(stream, stream->held.n_items, text);
}
