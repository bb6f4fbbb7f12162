#include "runtime/model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate_t;

struct ag_sampler {
    ag_sampling_t sampling;
    uint32_t vocab;
    uint64_t stream;
    candidate_t *candidates; /* (vocab) */
    double *weights;         /* (vocab) */
    unsigned char *seen;     /* (vocab) */
};

uint64_t ag_sampler_bytes(uint32_t vocab)
{
    return (uint64_t)vocab * (sizeof(candidate_t) + sizeof(double) + 1);
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
    sampler->weights = calloc((size_t)vocab + 1, sizeof(*sampler->weights));
    sampler->seen = calloc((size_t)vocab + 1, 1);
    if (sampler->candidates == NULL || sampler->weights == NULL || sampler->seen == NULL) {
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
        free(sampler->weights);
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

/* Most likely first; equal ones in the order of their ids, so that any sort gives one result. */
static int by_logit(const void *a, const void *b)
{
    const candidate_t *x = a, *y = b;

    if (x->logit != y->logit) {
        return x->logit < y->logit ? 1 : -1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static ag_status_t fill_candidates(ag_sampler_t *sampler, const float *logits)
{
    double penalty = sampler->sampling.repeat_penalty;

    for (uint32_t i = 0; i < sampler->vocab; i++) {
        float logit = logits[i];

        if (isnan(logit)) {
            return ag_fail(AG_ERR_FORMAT,
                           "the model's logits are not numbers: its weights may be damaged, or "
                           "--compute f32 may help");
        }
        if (penalty > 0 && penalty != 1 && sampler->seen[i]) {
            logit = logit > 0 ? logit / (float)penalty : logit * (float)penalty;
        }
        sampler->candidates[i] = (candidate_t){.logit = logit, .id = (int32_t)i};
    }
    return AG_OK;
}

static int32_t pick_greedy(const ag_sampler_t *sampler)
{
    const candidate_t *best = &sampler->candidates[0];

    for (uint32_t i = 1; i < sampler->vocab; i++) {
        best = sampler->candidates[i].logit > best->logit ? &sampler->candidates[i] : best;
    }
    return best->id;
}

/* How many of the sorted candidates remain; their weights are filled in, their sum returned. */
static uint32_t keep_likely(const ag_sampler_t *sampler, double *sum_p)
{
    const ag_sampling_t *s = &sampler->sampling;
    uint32_t n = s->top_k > 0 && s->top_k < sampler->vocab ? s->top_k : sampler->vocab;
    double sum = 0, kept = 0;
    uint32_t n_kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        sampler->weights[i] = exp(
            ((double)sampler->candidates[i].logit - sampler->candidates[0].logit) / s->temperature);
        sum += sampler->weights[i];
    }
    for (; n_kept < n; n_kept++) {
        bool enough = s->top_p > 0 && s->top_p < 1 && n_kept > 0 && kept >= s->top_p * sum;
        bool unlikely = s->min_p > 0 && sampler->weights[n_kept] < s->min_p * sampler->weights[0];

        if (enough || unlikely) {
            break;
        }
        kept += sampler->weights[n_kept];
    }
    *sum_p = kept;
    return n_kept;
}

ag_status_t ag_sampler_pick(ag_sampler_t *sampler, const float *logits, uint64_t index,
                            int32_t *id_p)
{
    ag_status_t status = fill_candidates(sampler, logits);
    uint32_t n, i = 0;
    double sum, draw;

    if (status != AG_OK) {
        return status;
    }
    if (!(sampler->sampling.temperature > 0)) {
        *id_p = pick_greedy(sampler);
        return AG_OK;
    }
    qsort(sampler->candidates, sampler->vocab, sizeof(*sampler->candidates), by_logit);
    n = keep_likely(sampler, &sum);
    draw = ag_philox_uniform(sampler->sampling.seed, sampler->stream, index) * sum;
    while (i + 1 < n && draw >= sampler->weights[i]) {
        draw -= sampler->weights[i++];
    }
    *id_p = sampler->candidates[i].id;
    return AG_OK;
}
