#include "runtime/model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"

/* Weights below e^-40 of the largest together change no draw. Candidates are told apart by so many
 * equal steps of the exponent, so that only those of the step where k or p end are brought into
 * order. */
enum { LEAST_EXPONENT = -40, N_STEPS = 4096 };

typedef struct candidate {
    float logit;
    int32_t id;
    uint32_t step;
    double weight; /* e^((logit - the largest) / temperature) */
} candidate_t;

/* Candidates of nearly the same weight. */
typedef struct step {
    uint32_t n;
    double weight; /* of all */
} step_t;

struct ag_sampler {
    ag_sampling_t sampling;
    uint32_t vocab;
    uint64_t stream;
    candidate_t *candidates; /* (vocab) those that may be drawn, by id */
    uint32_t n_candidates;
    step_t *steps;       /* (N_STEPS), the likeliest first */
    candidate_t *sorted; /* (vocab) of one step */
    unsigned char *seen; /* (vocab) */
};

uint64_t ag_sampler_bytes(uint32_t vocab)
{
    return sizeof(ag_sampler_t) + (uint64_t)vocab * (2 * sizeof(candidate_t) + 1) +
           N_STEPS * sizeof(step_t);
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
    sampler->candidates = calloc(vocab, sizeof(*sampler->candidates));
    sampler->sorted = calloc(vocab, sizeof(*sampler->sorted));
    sampler->steps = calloc(N_STEPS, sizeof(*sampler->steps));
    sampler->seen = calloc(vocab, 1);
    if (sampler->candidates == NULL || sampler->sorted == NULL || sampler->steps == NULL ||
        sampler->seen == NULL) {
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
        free(sampler->sorted);
        free(sampler->steps);
        free(sampler->seen);
        free(sampler);
    }
}

static bool has_penalty(const ag_sampler_t *sampler)
{
    double penalty = sampler->sampling.repeat_penalty;

    return penalty > 0 && penalty != 1;
}

void ag_sampler_begin(ag_sampler_t *sampler, uint64_t stream)
{
    sampler->stream = stream;
    if (has_penalty(sampler)) {
        memset(sampler->seen, 0, sampler->vocab);
    }
}

void ag_sampler_see(ag_sampler_t *sampler, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n && has_penalty(sampler); i++) {
        if (ids[i] >= 0 && (uint32_t)ids[i] < sampler->vocab) {
            sampler->seen[ids[i]] = 1;
        }
    }
}

static float penalized(const ag_sampler_t *sampler, const float *logits, uint32_t id)
{
    float penalty = (float)sampler->sampling.repeat_penalty, logit = logits[id];

    if (!sampler->seen[id]) {
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
        uint32_t step;

        if (exponent > LEAST_EXPONENT) {
            step = (uint32_t)(exponent / LEAST_EXPONENT * N_STEPS);
            sampler->candidates[sampler->n_candidates++] =
                (candidate_t){.logit = logit,
                              .id = (int32_t)i,
                              .step = step < N_STEPS ? step : N_STEPS - 1,
                              .weight = exp(exponent)};
        }
    }
}

/* The likelier comes first; of equal ones the lower id, so that every way gives one result. */
static bool comes_first(const candidate_t *a, const candidate_t *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static int compare(const void *a, const void *b)
{
    return comes_first(a, b) ? -1 : comes_first(b, a);
}

/* A step's candidates, the likeliest first. */
static const candidate_t *sort_step(ag_sampler_t *sampler, uint32_t step)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < sampler->n_candidates; i++) {
        if (sampler->candidates[i].step == step) {
            sampler->sorted[n++] = sampler->candidates[i];
        }
    }
    qsort(sampler->sorted, n, sizeof(*sampler->sorted), compare);
    return sampler->sorted;
}

/*
 * Walk the candidates, the likeliest first, until there are n of them or until they weigh enough;
 * past the last one there is no candidate left to take.
 * @param weight_p  out: of those walked over. @return the last one.
 */
static candidate_t walk(ag_sampler_t *sampler, uint32_t most, double enough, double *weight_p)
{
    const candidate_t *sorted;
    uint32_t step = 0, n = 0, i = 0;
    double weight = 0;

    while (n + sampler->steps[step].n < most && weight + sampler->steps[step].weight < enough &&
           n + sampler->steps[step].n < sampler->n_candidates) {
        n += sampler->steps[step].n;
        weight += sampler->steps[step++].weight;
    }
    sorted = sort_step(sampler, step);
    do {
        weight += sorted[i++].weight;
    } while (n + i < most && weight < enough && i < sampler->steps[step].n);
    *weight_p = weight;
    return sorted[i - 1];
}

/* Does p or k leave some out? Then the last one of those that are left. p is of what k leaves. */
static bool find_last(ag_sampler_t *sampler, candidate_t *last)
{
    const ag_sampling_t *s = &sampler->sampling;
    bool by_p = s->top_p > 0 && s->top_p < 1;
    bool by_k = s->top_k > 0 && s->top_k < sampler->n_candidates;
    double sum = 0, kept;

    if (!by_p && !by_k) {
        return false;
    }
    memset(sampler->steps, 0, N_STEPS * sizeof(*sampler->steps));
    for (uint32_t i = 0; i < sampler->n_candidates; i++) {
        step_t *step = &sampler->steps[sampler->candidates[i].step];

        step->n++;
        step->weight += sampler->candidates[i].weight;
        sum += sampler->candidates[i].weight;
    }
    if (by_k) {
        *last = walk(sampler, s->top_k, INFINITY, &sum);
    }
    if (by_p) {
        *last = walk(sampler, by_k ? s->top_k : sampler->n_candidates, s->top_p * sum, &kept);
    }
    return true;
}

/* By id, so that two candidates which are nearly alike cannot change places by rounding. */
static int32_t draw_from(ag_sampler_t *sampler, double uniform)
{
    candidate_t last = {0}, *kept = sampler->candidates;
    bool has_last = find_last(sampler, &last);
    uint32_t n = 0, chosen = 0;
    double sum = 0, draw;

    for (uint32_t i = 0; i < sampler->n_candidates; i++) {
        const candidate_t candidate = sampler->candidates[i];

        if (candidate.weight >= sampler->sampling.min_p &&
            !(has_last && comes_first(&last, &candidate))) {
            sum += candidate.weight;
            kept[n++] = candidate;
        }
    }
    draw = uniform * sum - kept[0].weight;
    while (draw >= 0 && chosen + 1 < n) {
        draw -= kept[++chosen].weight;
    }
    return kept[chosen].id;
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
