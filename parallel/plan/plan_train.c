/* What training decides: from options, and as the plan's member "train". */
#include <string.h>

#include "parallel/plan/plan_priv.h"

static const char *const train_keys[] = {"sequence_tokens",   "micro_batch_size", "schedule",
                                         "virtual_stages",    "zero_stage",       "recompute",
                                         "sequence_parallel", "split_backward",   NULL};

/* Micro-batches a replica, as they stand in an option. */
static ag_status_t read_micro_batches(const ag_plan_opts_t *opts, uint32_t n_replicas,
                                      uint32_t *counts, uint32_t *sum_p)
{
    uint32_t n;
    ag_status_t status =
        ag_plan_parse_numbers("--micro-batches", opts->micro_batches, n_replicas, counts, &n);

    if (status != AG_OK) {
        return status;
    }
    if (n != n_replicas) {
        return ag_fail(AG_ERR_INVALID,
                       "--micro-batches %s has %u numbers, but there are %u replicas: give one "
                       "each",
                       opts->micro_batches, n, n_replicas);
    }
    *sum_p = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (counts[i] == 0 || counts[i] > AG_MAX_MICRO_BATCHES - *sum_p) {
            return ag_fail(AG_ERR_INVALID,
                           "--micro-batches %s: give each replica at least 1, and all of them at "
                           "most %d",
                           opts->micro_batches, AG_MAX_MICRO_BATCHES);
        }
        *sum_p += counts[i];
    }
    return AG_OK;
}

/* How many micro-batches a global batch is. */
static ag_status_t count_micro_batches(const ag_plan_opts_t *opts, uint32_t size,
                                       uint32_t n_replicas, uint32_t *n_p)
{
    uint32_t n = opts->global_batch_size / size;

    if (opts->global_batch_size == 0) {
        *n_p = n_replicas;
        return AG_OK;
    }
    if (opts->global_batch_size % size != 0) {
        return ag_fail(AG_ERR_INVALID,
                       "--global-batch-size %u is no multiple of --micro-batch-size %u: give sizes "
                       "that divide",
                       opts->global_batch_size, size);
    }
    if (n > AG_MAX_MICRO_BATCHES) {
        return ag_fail(AG_ERR_INVALID,
                       "--global-batch-size %u is %u micro-batches of %u, of which there are at "
                       "most %d: give a larger --micro-batch-size",
                       opts->global_batch_size, n, size, AG_MAX_MICRO_BATCHES);
    }
    *n_p = n;
    return AG_OK;
}

/* What is computed again is there for the gradients of its layer alone. */
static ag_status_t check_split(const ag_plan_t *plan, const char *what)
{
    return plan->train.split_backward && plan->train.recompute
               ? ag_fail(AG_ERR_INVALID,
                         "%s: layers that are computed again have all their gradients at once: "
                         "leave split backward or recomputation out",
                         what)
               : AG_OK;
}

static ag_status_t deal_out(const ag_plan_opts_t *opts, uint32_t size, ag_plan_t *plan)
{
    uint32_t counts[AG_MAX_REPLICAS] = {0}, n_replicas = plan->stages[0].n_replicas, n = 0, sum = 0;
    ag_status_t status = count_micro_batches(opts, size, n_replicas, &n);

    if (status == AG_OK && opts->micro_batches != NULL) {
        status = read_micro_batches(opts, n_replicas, counts, &sum);
    }
    if (status != AG_OK) {
        return status;
    }
    if (opts->micro_batches != NULL && opts->global_batch_size > 0 && sum != n) {
        return ag_fail(AG_ERR_INVALID,
                       "--micro-batches %s are %u of %u rows, but --global-batch-size %u is %u: "
                       "make them agree, or leave one out",
                       opts->micro_batches, sum, size, opts->global_batch_size, n);
    }
    if (opts->micro_batches == NULL && n % n_replicas != 0) {
        return ag_fail(AG_ERR_INVALID,
                       "--global-batch-size %u is %u micro-batches of %u, which %u replicas cannot "
                       "share evenly: give another, or --micro-batches for each replica",
                       opts->global_batch_size, n, size, n_replicas);
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < n_replicas; i++) {
            plan->stages[s].replicas[i].micro_batches =
                opts->micro_batches != NULL ? counts[i] : n / n_replicas;
        }
    }
    return ag_plan_deal_turns(plan, "--micro-batches");
}

ag_status_t ag_plan_fill_train(const ag_plan_opts_t *opts, ag_plan_t *plan)
{
    uint32_t size = opts->micro_batch_size > 0 ? opts->micro_batch_size : 1;
    const char *schedule = opts->schedule != NULL ? opts->schedule : AG_SCHEDULE_DEFAULT;
    ag_status_t status;

    if (opts->zero_stage > 1) {
        return ag_fail(AG_ERR_INVALID, "--zero-stage %u: give 0 or 1", opts->zero_stage);
    }
    if (strlen(schedule) >= sizeof(plan->train.schedule)) {
        return ag_fail(AG_ERR_INVALID, "--schedule: the name is too long");
    }
    if (size > AG_MAX_TOKENS / opts->sequence_tokens) {
        return ag_fail(AG_ERR_INVALID,
                       "--micro-batch-size %u of --seq-length %u is more than %d tokens: give less",
                       size, opts->sequence_tokens, AG_MAX_TOKENS);
    }
    plan->train =
        (ag_plan_train_t){.sequence_tokens = opts->sequence_tokens,
                          .micro_batch_size = size,
                          .virtual_stages = opts->virtual_stages > 0 ? opts->virtual_stages : 1,
                          .zero_stage = opts->zero_stage,
                          .recompute = opts->recompute,
                          .split_backward = opts->split_backward,
                          /* what training that rounds keeps of the rows is half already: of two
                           * ranks each has nothing of it */
                          .sequence_parallel = opts->sequence_parallel == AG_CHOICE_DEFAULT
                                                   ? plan->compute == AG_COMPUTE_F32
                                                   : opts->sequence_parallel == AG_CHOICE_ON};
    strcpy(plan->train.schedule, schedule);
    plan->context_tokens = opts->sequence_tokens;
    plan->batch_tokens = size * opts->sequence_tokens;
    plan->n_sequences = size;
    plan->kv_type = plan->compute == AG_COMPUTE_F32 ? AG_F32 : AG_F16;
    plan->overlap_tokens = 0;
    status = check_split(plan, "--split-backward with --recompute full");
    return status == AG_OK ? deal_out(opts, size, plan) : status;
}

bool ag_plan_shares_rows(const ag_plan_t *plan, const ag_replica_t *replica)
{
    return plan->train.sequence_parallel && replica->n_ranks > 1;
}

bool ag_plan_shares_update(const ag_plan_t *plan)
{
    return plan->train.zero_stage > 0 && plan->stages[0].n_replicas > 1;
}

/* A replica with more micro-batches is faster, or has the larger memory. */
ag_status_t ag_plan_share_floats(const ag_plan_t *plan, uint64_t n, uint64_t *floats)
{
    enum { LINE_FLOATS = 16 };
    uint32_t n_replicas = plan->stages[0].n_replicas;
    ag_array_t shares = AG_ARRAY(uint32_t), ranges = AG_ARRAY(ag_range_t);
    ag_status_t status = ag_array_append(&ranges, NULL, n_replicas);

    for (uint32_t i = 0; i < n_replicas && status == AG_OK; i++) {
        status = ag_array_append(&shares, &plan->stages[0].replicas[i].micro_batches, 1);
    }
    if (status == AG_OK) {
        status = ag_shares_split(n, LINE_FLOATS, AG_ITEMS(&shares, uint32_t), n_replicas,
                                 AG_ITEMS(&ranges, ag_range_t));
    }
    for (uint32_t i = 0; i < n_replicas && status == AG_OK; i++) {
        const ag_range_t *range = &AG_ITEMS(&ranges, ag_range_t)[i];

        floats[i] = range->end - range->begin;
    }
    ag_array_fini(&shares);
    ag_array_fini(&ranges);
    return status;
}

ag_json_t *ag_plan_train_json(const ag_plan_t *plan)
{
    const ag_plan_train_t *train = &plan->train;
    const char *recompute = train->recompute ? "full" : "none";
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "sequence_tokens", ag_json_new_integer(train->sequence_tokens));
    ag_json_set(json, "micro_batch_size", ag_json_new_integer(train->micro_batch_size));
    ag_json_set(json, "schedule", ag_json_new_string(train->schedule, strlen(train->schedule)));
    ag_json_set(json, "virtual_stages", ag_json_new_integer(train->virtual_stages));
    ag_json_set(json, "zero_stage", ag_json_new_integer(train->zero_stage));
    ag_json_set(json, "recompute", ag_json_new_string(recompute, strlen(recompute)));
    ag_json_set(json, "sequence_parallel", ag_json_new_bool(train->sequence_parallel));
    ag_json_set(json, "split_backward", ag_json_new_bool(train->split_backward));
    return json;
}

/* Replicas of all stages are alike: their ranks hold the same parts. */
static ag_status_t check_replicas(const ag_plan_t *plan, const char *what)
{
    uint32_t sum = 0;

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        const ag_stage_t *stage = &plan->stages[s];

        for (uint32_t i = 0; i < stage->n_replicas; i++) {
            const ag_replica_t *first = &stage->replicas[0], *replica = &stage->replicas[i];

            if (replica->n_ranks != first->n_ranks ||
                replica->tensor_ranks != first->tensor_ranks ||
                memcmp(replica->shares, first->shares, first->n_ranks * sizeof(uint32_t)) != 0) {
                return ag_fail(AG_ERR_INVALID,
                               "%s: stages[%u].replicas[%u] has other shares than the first: "
                               "replicas of a stage must be cut alike",
                               what, s, i);
            }
            if (stage->n_replicas != plan->stages[0].n_replicas ||
                replica->micro_batches != plan->stages[0].replicas[i].micro_batches) {
                return ag_fail(AG_ERR_INVALID,
                               "%s: stages[%u].replicas must be as many as stages[0] has, with the "
                               "same micro_batches",
                               what, s);
            }
            if (replica->tensor_ranks != replica->n_ranks) {
                return ag_fail(AG_ERR_INVALID,
                               "%s: stages[%u].replicas[%u].tensor_ranks is %u: in training its %u "
                               "ranks share attention out, or are replicas",
                               what, s, i, replica->tensor_ranks, replica->n_ranks);
            }
            sum += s == 0 ? replica->micro_batches : 0;
        }
    }
    return sum <= AG_MAX_MICRO_BATCHES
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "%s: %u micro_batches in all, at most %d can be", what,
                         sum, AG_MAX_MICRO_BATCHES);
}

ag_status_t ag_plan_read_train(const ag_json_t *json, const char *what, ag_plan_t *plan)
{
    ag_plan_train_t *train = &plan->train;
    char recompute[8];
    ag_status_t status =
        ag_plan_read_number(ag_json_get(json, "sequence_tokens"), what, "train.sequence_tokens", 1,
                            AG_MAX_TOKENS, &train->sequence_tokens);

#define THEN(call) status = status == AG_OK ? (call) : status
    THEN(ag_plan_read_number(ag_json_get(json, "micro_batch_size"), what, "train.micro_batch_size",
                             1, AG_MAX_TOKENS / train->sequence_tokens, &train->micro_batch_size));
    THEN(ag_plan_read_text(ag_json_get(json, "schedule"), what, "train.schedule", train->schedule,
                           sizeof(train->schedule)));
    THEN(ag_plan_read_number(ag_json_get(json, "virtual_stages"), what, "train.virtual_stages", 1,
                             AG_MAX_STAGES, &train->virtual_stages));
    THEN(ag_plan_read_number(ag_json_get(json, "zero_stage"), what, "train.zero_stage", 0, 1,
                             &train->zero_stage));
    THEN(ag_plan_read_text(ag_json_get(json, "recompute"), what, "train.recompute", recompute,
                           sizeof(recompute)));
    if (status == AG_OK && strcmp(recompute, "none") != 0 && strcmp(recompute, "full") != 0) {
        status = ag_fail(AG_ERR_INVALID, "%s: train.recompute is \"%s\" (known: none, full)", what,
                         recompute);
    }
    if (status == AG_OK &&
        (plan->context_tokens != train->sequence_tokens ||
         plan->batch_tokens != train->sequence_tokens * train->micro_batch_size)) {
        status = ag_fail(AG_ERR_INVALID,
                         "%s: context_tokens must be train.sequence_tokens, batch_tokens as many "
                         "times train.micro_batch_size",
                         what);
    }
    if (status == AG_OK && ag_json_kind(ag_json_get(json, "sequence_parallel")) != AG_JSON_BOOL) {
        status = ag_fail(AG_ERR_INVALID, "%s: train.sequence_parallel must be true or false", what);
    }
    THEN(check_replicas(plan, what));
    THEN(ag_plan_check_keys(json, what, "train", train_keys));
    THEN(ag_plan_deal_turns(plan, what));
    train->recompute = status == AG_OK && strcmp(recompute, "full") == 0;
    train->sequence_parallel = ag_json_bool(ag_json_get(json, "sequence_parallel"), true);
    train->split_backward = ag_json_bool(ag_json_get(json, "split_backward"), false);
    THEN(check_split(plan, what));
#undef THEN
    return status;
}
