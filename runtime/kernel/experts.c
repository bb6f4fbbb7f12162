/*
 * What a feed-forward part of several experts adds: which experts a row uses, where its copies lie,
 * and their results together again. Rows that one expert works on lie together, so that it is one
 * product; nothing is padded.
 *
 *     COUNT    rows of each place (an expert on some rank)
 *     PERMUTE  for each row and its k experts: a copy at the end of what the place has so far
 *     REGROUP  blocks of rows from (source, expert) to (expert, source), or back
 *     COMBINE  for each row: its k results times their weights, in the order of the weights
 *
 * Every thread walks all rows' choices (some integers) and copies its share of the rows.
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/experts_priv.h"

/* More than any product is chosen by: how many rows an expert has must not decide about bits. */
enum { MANY_ROWS = 1 << 20 };

uint32_t ag_place_of(const ag_places_t *places, const float *routes, uint64_t row, uint32_t i)
{
    const float *route = routes + row * ag_route_width(places->n_used);
    uint32_t expert = (uint32_t)ag_route_ids(places->n_used, (float *)route)[i];
    uint32_t begin = places->begin[expert];

    return places->places[begin + row % (places->begin[expert + 1] - begin)];
}

static void count(const ag_places_t *places, const float *routes, uint64_t n_rows, uint32_t *counts)
{
    uint64_t begin, end;

    memset(counts, 0, places->n_places * sizeof(*counts));
    ag_places_rows(places, n_rows, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        for (uint32_t i = 0; i < places->n_used; i++) {
            counts[ag_place_of(places, routes, row, i)]++;
        }
    }
}

void ag_kernel_count_rows(const ag_kernel_context_t *context, const ag_places_t *places,
                          const float *routes, uint64_t n_rows, uint32_t *counts)
{
    if (context->worker->thread == 0) {
        count(places, routes, n_rows, counts);
    }
}

void ag_places_find_begins(const ag_places_t *places, const float *routes, uint64_t n_rows,
                           uint32_t *at)
{
    uint32_t sum = 0;

    count(places, routes, n_rows, at);
    for (uint32_t i = 0; i < places->n_places; i++) {
        uint32_t n = at[i];

        at[i] = sum;
        sum += n;
    }
}

void ag_places_my_rows(const ag_kernel_context_t *context, const ag_places_t *places,
                       uint64_t n_rows, uint64_t *begin_p, uint64_t *end_p)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, begin_p, end_p);
    ag_places_rows(places, n_rows, &begin, &end);
    *begin_p = *begin_p > begin ? *begin_p : begin;
    *end_p = *end_p < end ? *end_p : end;
}

size_t ag_places_scratch_bytes(const ag_places_t *places)
{
    return ag_align_up(places->n_places * sizeof(uint32_t));
}

void ag_kernel_permute(const ag_kernel_context_t *context, const ag_places_t *places,
                       const float *routes, uint64_t n_rows, const float *x, uint64_t width,
                       float *y)
{
    uint32_t *at = context->scratch;
    uint64_t begin, end, row;

    ag_places_find_begins(places, routes, n_rows, at);
    ag_places_my_rows(context, places, n_rows, &begin, &end);
    ag_places_rows(places, n_rows, &row, &(uint64_t){0});
    for (; row < end; row++) {
        for (uint32_t i = 0; i < places->n_used; i++) {
            uint64_t to = at[ag_place_of(places, routes, row, i)]++;

            if (row >= begin) {
                memcpy(y + to * width, x + row * width, width * sizeof(float));
            }
        }
    }
}

void ag_kernel_combine(const ag_kernel_context_t *context, const ag_places_t *places,
                       const float *routes, uint64_t n_rows, const float *x, uint64_t width,
                       bool add, float *y)
{
    uint32_t *at = context->scratch;
    uint64_t begin, end, row;

    ag_places_find_begins(places, routes, n_rows, at);
    ag_places_my_rows(context, places, n_rows, &begin, &end);
    ag_places_rows(places, n_rows, &row, &(uint64_t){0});
    for (; row < end; row++) {
        const float *weights = routes + row * ag_route_width(places->n_used);
        float *dst = y + row * width;

        for (uint32_t i = 0; i < places->n_used; i++) {
            const float *src = x + (uint64_t)at[ag_place_of(places, routes, row, i)]++ * width;

            for (uint64_t j = 0; row >= begin && j < width; j++) {
                dst[j] = i == 0 && !add ? weights[0] * src[j] : dst[j] + weights[i] * src[j];
            }
        }
    }
}

void *ag_group_pointer(const unsigned char *first, size_t stride_bytes, uint32_t group)
{
    void *pointer = NULL;

    if (first != NULL) {
        memcpy(&pointer, first + group * stride_bytes, sizeof(pointer));
    }
    return pointer;
}

size_t ag_groups_scratch_bytes(const ag_groups_t *groups)
{
    return ag_align_up((size_t)groups->n_sources * groups->n_groups * sizeof(uint32_t));
}

uint64_t ag_groups_rows(const ag_groups_t *groups, uint32_t group)
{
    uint64_t n = 0;

    if (groups->counts == NULL) {
        return groups->n_rows_each;
    }
    for (uint32_t s = 0; s < groups->n_sources; s++) {
        n += groups->counts[(uint64_t)s * groups->n_groups + group];
    }
    return n;
}

uint64_t ag_groups_all_rows(const ag_groups_t *groups)
{
    uint64_t n = 0;

    for (uint32_t g = 0; g < groups->n_groups; g++) {
        n += ag_groups_rows(groups, g);
    }
    return n;
}

void ag_kernel_regroup(const ag_kernel_context_t *context, const ag_groups_t *groups, bool back,
                       const float *x, uint64_t width, float *y)
{
    uint32_t *apart = context->scratch; /* where each source's rows of a group begin */
    uint64_t n_blocks = (uint64_t)groups->n_sources * groups->n_groups, sum = 0, begin, end;

    for (uint64_t i = 0; i < n_blocks; i++) {
        apart[i] = (uint32_t)sum;
        sum += groups->counts[i];
    }
    ag_worker_share(context->worker, sum, 1, &begin, &end);
    sum = 0;
    for (uint32_t g = 0; g < groups->n_groups; g++) {
        for (uint32_t s = 0; s < groups->n_sources; s++) {
            uint64_t block = (uint64_t)s * groups->n_groups + g, n = groups->counts[block];
            uint64_t first = sum > begin ? sum : begin, last = sum + n < end ? sum + n : end;

            if (first < last) {
                const uint64_t other = apart[block] + first - sum;

                memcpy(y + (back ? other : first) * width, x + (back ? first : other) * width,
                       (last - first) * width * sizeof(float));
            }
            sum += n;
        }
    }
}

void ag_kernel_group_linear(const ag_kernel_context_t *context, const ag_groups_t *groups,
                            const ag_linear_t *linear, const ag_group_weights_t *weights,
                            const float *x, bool exact, float *y)
{
    const ag_linear_impl_t *impl =
        ag_linear_choose(context->gemm, context->isa, linear, MANY_ROWS, exact);
    ag_kernel_context_t own = *context;
    uint64_t x_bytes = ag_linear_prepared_bytes(linear, exact), row = 0;

    own.prepared = NULL; /* each group has rows of its own */
    for (uint32_t g = 0; g < groups->n_groups; g++) {
        uint64_t n_rows = ag_groups_rows(groups, g);
        ag_linear_t one = *linear;

        one.weight = ag_group_pointer(weights->first, weights->stride_bytes, g);
        one.bias = ag_group_pointer(weights->first_bias, weights->stride_bytes, g);
        if (linear->prepared != NULL) {
            one.prepared = (const unsigned char *)linear->prepared + row * x_bytes;
        }
        if (n_rows > 0) {
            impl->run(&own, &one, x + row * linear->k, n_rows, y + row * linear->n);
        }
        row += n_rows;
    }
}

void ag_kernel_prepare_groups(const ag_kernel_context_t *context, const ag_groups_t *groups,
                              const ag_linear_t *linear, const float *x, void *dst)
{
    uint64_t x_bytes = ag_linear_prepared_bytes(linear, false), row = 0;

    for (uint32_t g = 0; g < groups->n_groups; g++) {
        uint64_t n_rows = ag_groups_rows(groups, g);

        ag_kernel_prepare(context, linear, x + row * linear->k, n_rows,
                          (unsigned char *)dst + row * x_bytes);
        row += n_rows;
    }
}
