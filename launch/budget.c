#include "launch/budget.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "parallel/run/checkpoint.h"
#include "parallel/run/train.h"
#include "runtime/base/line.h"
#include "runtime/model/export.h"

#define MIB 1048576.0

enum { MOST_LISTED_RANKS = 8 };

/* A way to do the job: the session's own, or one that is tried in its place. */
typedef struct way {
    const ag_session_t *session;
    const ag_plan_t *plan;
    const ag_build_t *build;
    const ag_programs_t *programs;
} way_t;

static way_t own_way(const ag_session_t *session)
{
    return (way_t){session, session->plan, session->build, &session->programs};
}

/*
 * The process as it was measured idle, and what comes on top of that at work: MPI's buffers per
 * peer (1 MiB was seen), descriptions of model and program, oneDNN's code for the shapes it meets.
 */
static uint64_t process_bytes(const ag_session_t *session, uint32_t n_ranks, uint32_t rank)
{
    enum { PEER_BYTES = 1 << 20, WORK_BYTES = 7 << 20 };
    bool mpi = n_ranks > 1 || session->host.under_mpirun;

    return ag_session_limits(session, rank)->process_bytes[mpi] + WORK_BYTES +
           (n_ranks - 1) * PEER_BYTES;
}

/* The input is read before the parts that are foretold are taken: what reading it took beyond what
 * stays of it is memory that they take afterwards, as far as they need so much. */
static uint64_t input_bytes(const ag_input_bytes_t *input, const ag_memory_t *foretold)
{
    uint64_t later = 0;

    for (uint32_t i = 0; i < foretold->n_parts; i++) {
        later += foretold->parts[i].bytes;
    }
    return input->most_bytes > input->held_bytes + later ? input->most_bytes - later
                                                         : input->held_bytes;
}

static uint64_t bytes_of_part(const ag_memory_t *memory, const char *name)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < memory->n_parts; i++) {
        bytes += strcmp(memory->parts[i].name, name) == 0 ? memory->parts[i].bytes : 0;
    }
    return bytes;
}

/* Of what a rank writes of a checkpoint: as it was foretold; of a way that is only tried, an even
 * part of what its replicas have. */
static uint64_t copies_bytes(const way_t *way, uint32_t rank, const ag_memory_t *memory)
{
    uint64_t weights = bytes_of_part(memory, "weights"), moments = bytes_of_part(memory, "moments");
    uint32_t n_replicas = way->plan->stages[0].n_replicas;

    if (way->build->ranks[rank].saved_bytes > 0) {
        return way->build->ranks[rank].saved_bytes;
    }
    return weights / n_replicas +
           (ag_plan_shares_update(way->plan) ? moments : moments / n_replicas);
}

/* What training takes besides its program: rows of a step, checkpoints, what the model is written
 * with at the end, for which that serves that it was read with, and gradients that are kept. */
static void add_training(const way_t *way, uint32_t rank, ag_memory_t *memory)
{
    const ag_session_t *session = way->session;
    uint64_t loading = bytes_of_part(memory, "loading");
    uint64_t exporting = rank == 0 ? ag_export_bytes(session->model->spec) : 0;
    uint64_t copies = session->options->train.save_steps > 0 ? copies_bytes(way, rank, memory)
                                                             : ag_saver_least_bytes();

    memory->parts[memory->n_parts++] =
        (ag_memory_part_t){.name = "rows", .bytes = rank == 0 ? ag_train_bytes(way->plan) : 0};
    memory->parts[memory->n_parts++] = (ag_memory_part_t){.name = "checkpoints", .bytes = copies};
    memory->parts[memory->n_parts++] = (ag_memory_part_t){
        .name = "export", .bytes = exporting > loading ? exporting - loading : 0};
    if (session->options->train.save_grads != NULL || session->options->train.verify_plan) {
        memory->parts[memory->n_parts++] = (ag_memory_part_t){
            .name = "gradients", .bytes = ag_job_gradients_bytes(way->build, rank)};
    }
}

size_t ag_session_trace_events(const ag_session_t *session)
{
    enum { STEP_EVENTS = 1 << 14 };

    return session->options->trace != NULL                 ? (size_t)AG_TRACE_EVENTS
           : session->options->command == AG_COMMAND_TRAIN ? (size_t)STEP_EVENTS
                                                           : 0;
}

static ag_memory_t memory_of(const way_t *way, uint32_t rank)
{
    const ag_session_t *session = way->session;
    ag_memory_t memory = ag_memory_foretell(way->build, way->programs, rank,
                                            ag_session_rank(session, rank)->n_threads, false);
    uint64_t input;

    if (way->plan->train.sequence_tokens > 0) {
        add_training(way, rank, &memory);
    }
    input = rank == 0 ? input_bytes(&session->input, &memory) : 0;

    memory.parts[memory.n_parts++] = (ag_memory_part_t){.name = "input", .bytes = input};
    memory.parts[memory.n_parts++] = (ag_memory_part_t){
        .name = "process", .bytes = process_bytes(session, ag_plan_ranks(way->plan), rank)};
    memory.parts[memory.n_parts++] =
        (ag_memory_part_t){.name = "tokenizer and sampler",
                           .bytes = rank == 0 && session->tokenizer != NULL
                                        ? ag_tokenizer_bytes(session->tokenizer) +
                                              ag_sampler_bytes(session->model->spec->vocab)
                                        : 0};
    if (ag_session_trace_events(session) > 0) {
        memory.parts[memory.n_parts++] = (ag_memory_part_t){
            .name = "trace", .bytes = ag_session_trace_events(session) * sizeof(ag_trace_event_t)};
    }
    return memory;
}

static uint64_t total_of(const ag_memory_t *memory)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < memory->n_parts; i++) {
        total += memory->parts[i].bytes;
    }
    return total;
}

static uint64_t total_at(const way_t *way, uint32_t rank)
{
    ag_memory_t memory = memory_of(way, rank);

    return total_of(&memory);
}

ag_memory_t ag_session_memory(const ag_session_t *session, uint32_t rank)
{
    way_t way = own_way(session);

    return memory_of(&way, rank);
}

uint64_t ag_session_budget(const ag_session_t *session, uint32_t rank)
{
    return session->plan->n_budgets > 0 ? session->plan->budget_bytes[rank]
                                        : session->host.available_bytes / session->host.n_local;
}

/* A rank is refused; what would do is put together. */
typedef struct refusal {
    const ag_session_t *session;
    uint32_t rank;
    uint64_t budget_bytes;
    bool machine_is_small; /* no larger budget could be had here */
    char would_do[512];
} refusal_t;

__attribute__((format(printf, 2, 3))) static void offer(refusal_t *refusal, const char *format, ...)
{
    size_t n_chars;
    va_list args;

    ag_line_append(refusal->would_do, sizeof(refusal->would_do), "%s",
                   refusal->would_do[0] != '\0' ? ", or " : "");
    n_chars = strlen(refusal->would_do);
    va_start(args, format);
    vsnprintf(refusal->would_do + n_chars, sizeof(refusal->would_do) - n_chars, format, args);
    va_end(args);
}

/* Would every rank of this plan fit? @param budget_bytes  of each; 0: what each has now. */
static bool fits(const refusal_t *refusal, const ag_plan_t *plan, uint64_t budget_bytes)
{
    const ag_session_t *session = refusal->session;
    ag_build_t *build = NULL;
    ag_programs_t programs = {0};
    bool good = ag_build_create(plan, session->model, &build) == AG_OK &&
                ag_programs_create(build, session->evaluates, false, &programs) == AG_OK &&
                ag_session_set_hosts(session, &programs) == AG_OK;
    way_t way = {session, plan, build, &programs};

    for (uint32_t r = 0; good && r < ag_plan_ranks(plan); r++) {
        good =
            total_at(&way, r) <= (budget_bytes > 0 ? budget_bytes : ag_session_budget(session, r));
    }
    ag_programs_destroy(&programs);
    ag_build_destroy(build);
    return good;
}

static unsigned long long whole_mib(uint64_t bytes)
{
    return (bytes + (1 << 20) - 1) >> 20;
}

/* A larger budget: one for all, or one for each, if this machine has it. */
static void offer_memory(refusal_t *refusal)
{
    const ag_session_t *session = refusal->session;
    way_t way = own_way(session);
    uint32_t n_ranks = ag_plan_ranks(session->plan);
    bool all_are_here = n_ranks == (uint32_t)session->net->n_ranks;
    uint64_t here = session->ranks[session->net->rank].host, most = 0, sum = 0;
    char list[16 * MOST_LISTED_RANKS] = "";

    for (uint32_t r = 0; r < n_ranks; r++) {
        uint64_t mib = whole_mib(total_at(&way, r));

        most = mib > most ? mib : most;
        sum += ag_session_rank(session, r)->host == here ? mib : 0;
        if (r < MOST_LISTED_RANKS) {
            ag_line_append(list, sizeof(list), "%s%lluM", r > 0 ? "," : "",
                           (unsigned long long)mib);
        }
    }
    if ((most << 20) * session->host.n_local <= session->host.available_bytes) {
        offer(refusal, "--max-memory %lluM", (unsigned long long)most);
    } else if (all_are_here && n_ranks > 1 && n_ranks <= MOST_LISTED_RANKS &&
               sum << 20 <= session->host.available_bytes) {
        offer(refusal, "--max-memory %s", list);
    } else {
        refusal->machine_is_small = true;
    }
}

/* Positions that the KV cache of every rank may have, for the rest to fit too; 0: none. */
static uint32_t context_that_fits(const refusal_t *refusal)
{
    const ag_session_t *session = refusal->session;
    uint64_t n_blocks = ag_kv_blocks(session->plan->context_tokens), most = n_blocks;

    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        ag_memory_t memory = ag_session_memory(session, r);
        uint64_t total = total_of(&memory), budget = ag_session_budget(session, r), kv = 0;
        uint64_t excess = total > budget ? total - budget : 0, left;

        for (uint32_t i = 0; i < memory.n_parts; i++) {
            kv += strcmp(memory.parts[i].name, "kv cache") == 0 ? memory.parts[i].bytes : 0;
        }
        if (excess >= kv) {
            most = excess > 0 ? 0 : most;
            continue;
        }
        left = (kv - excess) / (kv / n_blocks);
        most = left < most ? left : most;
    }
    return (uint32_t)most * AG_KV_BLOCK_TOKENS;
}

static void offer_context(refusal_t *refusal)
{
    const ag_options_t *options = refusal->session->options;
    ag_plan_t plan = *refusal->session->plan;
    bool is_eval = options->command == AG_COMMAND_EVAL, context_given;
    uint32_t context = context_that_fits(refusal);

    context_given = options->plan.context_tokens > 0 || options->plan_file != NULL;
    if (context == 0 || context >= plan.context_tokens ||
        options->command == AG_COMMAND_BENCH_MODEL) {
        return;
    }
    plan.context_tokens = context;
    plan.batch_tokens = plan.batch_tokens < context ? plan.batch_tokens : context;
    if (!fits(refusal, &plan, 0)) {
        return;
    }
    if (is_eval && !context_given) { /* a window, and a BOS before it */
        offer(refusal, "--window %u or less", context - 1);
    } else if (is_eval && options->window > 0) {
        offer(refusal, "--context %u with --window %u or less", context, context - 1);
    } else {
        offer(refusal, "--context %u or less%s", context,
              options->command == AG_COMMAND_GENERATE ? " (prompt and answer)" : "");
    }
}

/* Fewer sequences at once: the largest half of a half that fits. */
static void offer_batch(refusal_t *refusal)
{
    ag_plan_t plan = *refusal->session->plan;

    for (uint32_t n = plan.n_sequences / 2; n > 0; n /= 2) {
        plan.n_sequences = n;
        if (fits(refusal, &plan, 0)) {
            offer(refusal, "--batch %u", n);
            return;
        }
    }
}

/* The fewest more ranks that have room, each with the budget of the one that has not. */
static void offer_ranks(refusal_t *refusal)
{
    static const uint32_t counts[] = {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64};
    const ag_session_t *session = refusal->session;
    ag_plan_model_t model = ag_build_plan_model(session->model);

    for (size_t i = 0; i < 2 * sizeof(counts) / sizeof(*counts); i++) {
        uint32_t n = counts[i / 2];
        bool by_stages = i % 2 == 1;
        char tp[16];
        ag_plan_opts_t opts = {.tp = by_stages ? NULL : tp,
                               .pp = by_stages ? n : 0,
                               .compute = session->plan->compute,
                               .context_tokens = session->plan->context_tokens,
                               .batch_tokens = session->plan->batch_tokens,
                               .n_sequences = session->plan->n_sequences};
        ag_plan_t *plan = NULL;
        bool good;

        snprintf(tp, sizeof(tp), "%u", n);
        if (n <= ag_plan_ranks(session->plan) ||
            process_bytes(session, n, refusal->rank) >= refusal->budget_bytes) {
            continue;
        }
        good = ag_plan_make(&model, &opts, &plan) == AG_OK &&
               fits(refusal, plan, refusal->budget_bytes);
        ag_plan_destroy(plan);
        if (good) {
            offer(refusal, "%u ranks with %.1f MiB each (mpirun -n %u, --%s %u)", n,
                  (double)refusal->budget_bytes / MIB, n, by_stages ? "pp" : "tp", n);
            return;
        }
    }
}

static void offer_compute(refusal_t *refusal)
{
    ag_plan_t plan = *refusal->session->plan;

    if (plan.compute == AG_COMPUTE_F32) {
        plan.compute = AG_COMPUTE_AUTO;
        plan.kv_type = AG_F16;
        if (fits(refusal, &plan, 0)) {
            offer(refusal, "--compute auto");
        }
    }
}

static void name_largest(ag_memory_t memory, char *text, size_t n_bytes)
{
    text[0] = '\0';
    for (int i = 0; i < 3; i++) {
        ag_memory_part_t *largest = &memory.parts[0];

        for (uint32_t j = 1; j < memory.n_parts; j++) {
            largest = memory.parts[j].bytes > largest->bytes ? &memory.parts[j] : largest;
        }
        ag_line_append(text, n_bytes, "%s%s %.1f MiB", i > 0 ? ", " : "", largest->name,
                       (double)largest->bytes / MIB);
        largest->bytes = 0;
    }
}

static ag_status_t refuse(refusal_t *refusal)
{
    const ag_session_t *session = refusal->session;
    ag_memory_t memory = ag_session_memory(session, refusal->rank);
    char parts[256], machine[128] = "";
    bool found;

    offer_memory(refusal);
    offer_batch(refusal);
    offer_context(refusal);
    offer_ranks(refusal);
    offer_compute(refusal);
    name_largest(memory, parts, sizeof(parts));
    found = refusal->would_do[0] != '\0';
    if (refusal->machine_is_small) {
        snprintf(machine, sizeof(machine), "; this machine has %.1f MiB free for %s",
                 (double)session->host.available_bytes / MIB,
                 session->host.n_local > 1 ? "all its ranks" : "it");
    }
    return ag_fail(AG_ERR_BUDGET,
                   "rank %u needs %.1f MiB, its %s is %.1f MiB (largest: %s)%s; %s%s",
                   refusal->rank, (double)total_of(&memory) / MIB,
                   session->plan->n_budgets > 0 ? "budget" : "share of what is free here",
                   (double)refusal->budget_bytes / MIB, parts, machine,
                   !found                                ? "take a smaller model, or machines with "
                                                           "more memory"
                   : session->options->plan_file != NULL ? "a plan would do that is made with "
                                                         : "this would do: ",
                   refusal->would_do);
}

ag_status_t ag_session_check_budget(const ag_session_t *session, uint32_t rank)
{
    way_t way = own_way(session);
    refusal_t refusal = {
        .session = session, .rank = rank, .budget_bytes = ag_session_budget(session, rank)};

    return total_at(&way, rank) <= refusal.budget_bytes ? AG_OK : refuse(&refusal);
}

ag_status_t ag_session_check_budgets(const ag_session_t *session)
{
    uint32_t n_ranks = session->plan->n_budgets > 0 ? ag_plan_ranks(session->plan) : 0;
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        status = ag_session_check_budget(session, r);
    }
    return status;
}
