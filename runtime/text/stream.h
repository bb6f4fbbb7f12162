/* Text as it is made: whole characters only, and nothing that may turn out to begin a stop text. */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

typedef struct ag_text_stream {
    const char *const *stops; /* (n_stops) borrowed; none empty */
    uint32_t n_stops;
    bool stopped;    /* a stop text has come; nothing follows */
    ag_array_t held; /* char: not given out yet */
} ag_text_stream_t;

void ag_text_stream_init(ag_text_stream_t *stream, const char *const *stops, uint32_t n_stops);
void ag_text_stream_fini(ag_text_stream_t *stream);

/**
 * Bytes of the next token. What is certain is appended to text as valid UTF-8, invalid bytes as
 * U+FFFD. When a stop text is complete (the first to be; of several at one byte, the longest), text
 * before it is given out and stream->stopped is set. How the bytes are cut into tokens makes no
 * difference.
 */
ag_status_t ag_text_stream_push(ag_text_stream_t *stream, const char *bytes, size_t n_bytes,
                                ag_array_t *text);

/** No more will come: give out what was held back. */
ag_status_t ag_text_stream_flush(ag_text_stream_t *stream, ag_array_t *text);
