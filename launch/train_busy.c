/* How long a rank computed in the last step, as its events say. */
#include <math.h>
#include <stdlib.h>

#include "launch/train.h"

typedef struct span {
    double begin, end;
} span_t;

static int by_begin(const void *a, const void *b)
{
    const span_t *x = a, *y = b;

    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Events of the compute stream lie within each other: operations, and what they are made of. */
static double union_of(span_t *spans, size_t n)
{
    double end = -INFINITY, sum = 0;

    qsort(spans, n, sizeof(*spans), by_begin);
    for (size_t i = 0; i < n; i++) {
        double begin = fmax(spans[i].begin, end);

        sum += fmax(0, spans[i].end - begin);
        end = fmax(end, spans[i].end);
    }
    return sum;
}

double ag_train_busy_us(const ag_json_t *trace, uint32_t rank, double span_us)
{
    size_t n = ag_json_size(trace), n_spans = 0;
    span_t *spans = malloc((n + 1) * sizeof(*spans));
    double end_us = 0, busy_us = 0;

    for (size_t i = 0; i < n && spans != NULL; i++) {
        const ag_json_t *event = ag_json_at(trace, i);
        double begin = ag_json_number(ag_json_get(event, "ts"), -1);
        double end = begin + ag_json_number(ag_json_get(event, "dur"), 0);

        end_us = fmax(end_us, end);
        if (begin >= 0 && ag_json_integer(ag_json_get(event, "pid"), -1) == rank &&
            ag_json_integer(ag_json_get(event, "tid"), -1) == AG_STREAM_COMPUTE) {
            spans[n_spans++] = (span_t){begin, end};
        }
    }
    for (size_t i = 0; i < n_spans; i++) {
        spans[i].begin = fmax(spans[i].begin, end_us - span_us);
        spans[i].end = fmax(spans[i].end, spans[i].begin);
    }
    busy_us = spans != NULL ? union_of(spans, n_spans) : 0;
    free(spans);
    return busy_us;
}
