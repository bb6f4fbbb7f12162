#include "runtime/model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"

/* Weights below e^-40 of the largest together change no draw. */
static const double least_exponent = -40;

typedef struct candidate {
    float logit;
    int32_t id;
    double weight; /* e^((logit - the largest) / temperature) */
} candidate_t;

struct ag_sampler {
    ag_sampling_t sampling;
    uint32_t vocab;
    uint64_t stream;
    candidate_t *candidates; /* (vocab) those that may be drawn, by id */
    uint32_t n_candidates;
    uint32_t *heap;      /* (vocab) of candidates, the likeliest on top */
    unsigned char *seen; /* (vocab) */
};

uint64_t ag_sampler_bytes(uint32_t vocab)
{
    return (uint64_t)vocab * (sizeof(candidate_t) + sizeof(uint32_t) + 1);
}

ag_status_t ag_sampler_create(uint32_t vocab, const ag_sampling_t *sampling,
                              ag_sampler_t **sampler_p)
{
    ag_sampler_t *sampler = calloc(1, sizeof(*sampler));

    if (sampler == NULL) {
        return ag_fail_nomem("making a sampler", sizeof(*sampler));
    }
    sampler->sampling = *sampling;
    sampler->vocab = vocab;
    sampler->candidates = calloc((size_t)vocab + 1, sizeof(*sampler->candidates));
    sampler->heap = calloc((size_t)vocab + 1, sizeof(*sampler->heap));
    sampler->seen = calloc((size_t)vocab + 1, 1);
    if (sampler->candidates == NULL || sampler->heap == NULL || sampler->seen == NULL) {
        ag_sampler_destroy(sampler);
        return ag_fail_nomem("making a sampler", ag_sampler_bytes(vocab));
    }
    *sampler_p = sampler;
    return AG_OK;
}

void ag_sampler_destroy(ag_sampler_t *sampler)
{
    if (sampler != NULL) {
        free(sampler->candidates);
        free(sampler->heap);
        free(sampler->seen);
        free(sampler);
    }
}

void ag_sampler_begin(ag_sampler_t *sampler, uint64_t stream)
{
    sampler->stream = stream;
    memset(sampler->seen, 0, sampler->vocab);
}

void ag_sampler_see(ag_sampler_t *sampler, int32_t id)
{
    if (id >= 0 && (uint32_t)id < sampler->vocab) {
        sampler->seen[id] = 1;
    }
}

static float penalized(const ag_sampler_t *sampler, const float *logits, uint32_t id)
{
    float penalty = (float)sampler->sampling.repeat_penalty, logit = logits[id];

    if (!(penalty > 0) || !sampler->seen[id]) {
        return logit;
    }
    return logit > 0 ? logit / penalty : logit * penalty;
}

/* Is any of them above, or no number? Written so that it is done by vectors. */
static bool any_above(const float *logits, uint32_t n, float largest)
{
    int any = 0;

    for (uint32_t i = 0; i < n; i++) {
        any |= !(logits[i] <= largest);
    }
    return any != 0;
}

/* The largest logit, of the lowest id among equals. */
static ag_status_t find_largest(const ag_sampler_t *sampler, const float *logits, uint32_t *id_p)
{
    enum { BLOCK = 256 };
    double penalty = sampler->sampling.repeat_penalty;
    bool may_raise = penalty > 0 && penalty < 1;
    float largest = penalized(sampler, logits, 0);

    *id_p = 0;
    for (uint32_t begin = 0; begin < sampler->vocab; begin += BLOCK) {
        uint32_t rest = sampler->vocab - begin, end = begin + (rest < BLOCK ? rest : BLOCK);

        if (!may_raise && !any_above(logits + begin, end - begin, largest)) {
            continue;
        }
        for (uint32_t i = begin; i < end && !isnan(largest); i++) {
            float logit = penalized(sampler, logits, i);

            if (!(logit <= largest)) {
                largest = logit;
                *id_p = i;
            }
        }
    }
    return isfinite(largest) ? AG_OK : ag_fail(AG_ERR_FORMAT, "the logits are not finite numbers");
}

static void fill_candidates(ag_sampler_t *sampler, const float *logits, float largest)
{
    sampler->n_candidates = 0;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        float logit = penalized(sampler, logits, i);
        double exponent = ((double)logit - largest) / sampler->sampling.temperature;

        if (exponent >= least_exponent) {
            sampler->candidates[sampler->n_candidates++] =
                (candidate_t){.logit = logit, .id = (int32_t)i, .weight = exp(exponent)};
        }
    }
}

/* The likelier comes first; of equal ones the lower id, so that every way gives one result. */
static bool comes_first(const candidate_t *a, const candidate_t *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

/* Let the entry at a place of the heap (n) sink to where it belongs. */
static void sink(ag_sampler_t *sampler, uint32_t n, uint32_t at)
{
    for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        uint32_t *heap = sampler->heap, moved = heap[at];

        if (child + 1 < n &&
            comes_first(&sampler->candidates[heap[child + 1]], &sampler->candidates[heap[child]])) {
            child++;
        }
        if (!comes_first(&sampler->candidates[heap[child]], &sampler->candidates[moved])) {
            return;
        }
        heap[at] = heap[child];
        heap[child] = moved;
        at = child;
    }
}

/* Take the likeliest off the heap; the rest is a heap again. */
static const candidate_t *take_top(ag_sampler_t *sampler, uint32_t *n)
{
    uint32_t top = sampler->heap[0];

    sampler->heap[0] = sampler->heap[--*n];
    sampler->heap[*n] = top; /* those taken stand behind it, the first one last */
    sink(sampler, *n, 0);
    return &sampler->candidates[top];
}

/*
 * The last candidate that k and p leave, the likeliest first; NULL: they leave all. Only those are
 * brought into order.
 */
static const candidate_t *find_last(ag_sampler_t *sampler)
{
    const ag_sampling_t *s = &sampler->sampling;
    bool by_p = s->top_p > 0 && s->top_p < 1;
    uint32_t n = sampler->n_candidates, k = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    const candidate_t *last = NULL;
    double sum = 0, kept = 0;

    if (k == n && !by_p) {
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        sampler->heap[i] = i;
        sum += sampler->candidates[i].weight;
    }
    for (uint32_t i = n / 2; i-- > 0;) {
        sink(sampler, n, i);
    }
    if (k < sampler->n_candidates) { /* p is of what k leaves */
        sum = 0;
        for (uint32_t i = 0; i < k; i++) {
            last = take_top(sampler, &n);
            sum += last->weight;
        }
    }
    if (!by_p) {
        return last;
    }
    for (uint32_t i = 0; i < k && (i == 0 || kept < s->top_p * sum); i++) {
        last = k < sampler->n_candidates
                   ? &sampler->candidates[sampler->heap[sampler->n_candidates - 1 - i]]
                   : take_top(sampler, &n);
        kept += last->weight;
    }
    return last;
}

static bool is_kept(const candidate_t *candidate, const candidate_t *last, double least_weight)
{
    return candidate->weight >= least_weight && (last == NULL || !comes_first(last, candidate));
}

/* By id, so that two candidates which are nearly alike cannot change places by rounding. */
static int32_t draw_from(ag_sampler_t *sampler, double uniform)
{
    const candidate_t *last = find_last(sampler), *chosen = NULL;
    double least = sampler->sampling.min_p, sum = 0, draw;

    for (uint32_t i = 0; i < sampler->n_candidates; i++) {
        const candidate_t *candidate = &sampler->candidates[i];

        sum += is_kept(candidate, last, least) ? candidate->weight : 0;
    }
    draw = uniform * sum;
    for (uint32_t i = 0; i < sampler->n_candidates && (chosen == NULL || draw >= 0); i++) {
        const candidate_t *candidate = &sampler->candidates[i];

        if (is_kept(candidate, last, least)) {
            chosen = candidate;
            draw -= candidate->weight;
        }
    }
    return chosen->id;
}

ag_status_t ag_sampler_pick(ag_sampler_t *sampler, const float *logits, uint64_t index,
                            int32_t *id_p)
{
    uint32_t largest;
    ag_status_t status = find_largest(sampler, logits, &largest);

    if (status != AG_OK) {
        return status;
    }
    if (!(sampler->sampling.temperature > 0)) {
        *id_p = (int32_t)largest;
        return AG_OK;
    }
    fill_candidates(sampler, logits, penalized(sampler, logits, largest));
    *id_p = draw_from(sampler, ag_philox_uniform(sampler->sampling.seed, sampler->stream, index));
    return AG_OK;
}
