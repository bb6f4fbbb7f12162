/* What a rank takes, foretold from the same figures by which it is then taken. */
#include "parallel/run/memory_priv.h"

#include "parallel/run/driver.h"
#include "parallel/run/job_priv.h"
#include "runtime/base/line.h"

uint64_t ag_memory_kv_blocks(const ag_plan_t *plan)
{
    return plan->train.sequence_tokens > 0
               ? 0
               : (uint64_t)plan->n_sequences * ag_kv_blocks(plan->context_tokens);
}

uint32_t ag_job_kv_blocks(const ag_plan_t *plan)
{
    return (uint32_t)ag_memory_kv_blocks(plan);
}

uint64_t ag_memory_kv(const ag_build_t *build, uint32_t rank)
{
    const ag_stage_t *stage = &build->plan->stages[build->ranks[rank].place.stage];

    return ag_kv_bytes(build->model->spec, &build->ranks[rank].shard, stage->layer_begin,
                       stage->layer_end, build->plan->kv_type, ag_job_kv_blocks(build->plan));
}

uint64_t ag_memory_moments(const ag_build_t *build, uint32_t rank)
{
    const ag_params_t *params = &build->ranks[rank].params;
    uint64_t bytes = 0;

    for (size_t i = 0; i < params->items.n_items; i++) {
        const ag_graph_param_t *held = &ag_params_held(params)[i];

        bytes += ag_memory_placed((held->own_end - held->own_begin) * sizeof(float));
    }
    return bytes;
}

uint64_t ag_memory_slot(const ag_programs_t *programs, uint32_t rank)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        uint64_t slot = programs->programs[i]->ranks[rank].memory_bytes;

        bytes = slot > bytes ? slot : bytes;
    }
    return ag_memory_placed(bytes);
}

uint64_t ag_memory_thread_scratch(const ag_programs_t *programs, uint32_t rank)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        const ag_array_t *segments = &programs->programs[i]->ranks[rank].segments;

        for (size_t s = 0; s < segments->n_items; s++) {
            const ag_graph_t *graph = AG_ITEMS(segments, ag_segment_t)[s].inside;

            if (graph != NULL && graph->thread_scratch_bytes > bytes) {
                bytes = graph->thread_scratch_bytes;
            }
        }
    }
    return (bytes + 4095) / 4096 * 4096; /* threads do not share a page */
}

static bool is_of_numbers(const ag_op_t *op)
{
    return op->kind == AG_OP_ALL_TO_ALL && op->counter == AG_SIZE_ONE;
}

static uint64_t staged_by_sum(const ag_transfer_shape_t *of_group, uint32_t index, uint64_t n,
                              uint64_t n_sequences)
{
    ag_transfer_shape_t shape = *of_group;

    shape.collective = AG_ALL_REDUCE;
    shape.element_bytes = sizeof(float);
    shape.n = (n + n_sequences - 1) / n_sequences;
    return n_sequences * ag_transfer_most_stage_elements(&shape, index) * sizeof(float);
}

static uint64_t staged_by_shares(const ag_transfer_shape_t *of_group, uint32_t index,
                                 const ag_program_shares_t *shares, uint64_t n)
{
    ag_transfer_shape_t shape = *of_group;

    shape.collective = AG_REDUCE_SCATTER;
    shape.element_bytes = sizeof(float);
    shape.n = n;
    shape.counts = shares->floats;
    shape.algorithm = AG_DIRECT;
    return ag_transfer_stage_elements(&shape, index) * sizeof(float);
}

/* A rank sends its bound in the mean. */
static uint64_t staged_by_rows(const ag_transfer_shape_t *of_group, uint32_t index,
                               uint64_t row_bytes, uint64_t n)
{
    ag_transfer_shape_t shape = *of_group;

    shape.collective = AG_ALL_TO_ALL;
    shape.element_bytes = (uint32_t)row_bytes;
    shape.n = n;
    return ag_transfer_most_stage_elements(&shape, index) * row_bytes;
}

/* A rank's program, of which it is asked what its operations need. */
typedef struct asked {
    const ag_build_t *build;
    const ag_programs_t *programs;
    const ag_program_t *program;
    uint32_t rank;
} asked_t;

/* This rank's rows of a sum: the others send it theirs. */
static uint64_t staged_by_shared_rows(const asked_t *asked, const ag_op_t *op, uint32_t n_ranks)
{
    return (n_ranks - 1) * op->unit_bytes *
           ag_shard_most_rows(&asked->build->ranks[asked->rank].shard,
                              asked->program->bounds[op->counter]);
}

/* Bytes that a collective stages at most: an all-reduce by the algorithm that the rows of a
 * sequence choose. All but these move bytes from place to place. */
static uint64_t staged_by(const asked_t *asked, const ag_op_t *op)
{
    const ag_program_t *program = asked->program;
    const ag_program_group_t *group = &AG_ITEMS(&program->groups, ag_program_group_t)[op->subject];
    uint64_t n_sequences = ag_program_trains(program) ? 1 : program->bounds[AG_SIZE_SEQUENCES];
    ag_transfer_shape_t shape = {.n_ranks = group->n_ranks,
                                 .hosts = ag_programs_hosts(asked->programs, op->subject)};
    uint32_t index = 0;

    while (group->ranks[index] != asked->rank) {
        index++;
    }
    switch (op->kind) {
    case AG_OP_ALL_REDUCE:
        return staged_by_sum(&shape, index,
                             op->unit_bytes * ag_half_rows(op->half, program->bounds[op->counter]) /
                                 sizeof(float),
                             n_sequences);
    case AG_OP_REDUCE_SCATTER:
        return op->shares == 0 ? staged_by_shared_rows(asked, op, group->n_ranks)
                               : staged_by_shares(&shape, index, ag_op_shares(program, op),
                                                  op->unit_bytes / sizeof(float));
    case AG_OP_ALL_TO_ALL:
        return is_of_numbers(op)
                   ? 0
                   : staged_by_rows(&shape, index, op->unit_bytes, program->bounds[AG_SIZE_SENT]);
    default:
        return 0;
    }
}

/* What collectives of a rank need at most, each by itself. */
static uint64_t most_of(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                        uint64_t (*bytes_of)(const asked_t *asked, const ag_op_t *op))
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        asked_t asked = {build, programs, programs->programs[i], rank};
        const ag_rank_program_t *r = &asked.program->ranks[rank];

        for (uint32_t op = 0; op < r->ops.n_items; op++) {
            const ag_op_t *o = &ag_rank_ops(r)[op];

            if (ag_op_infos[o->kind].is_collective) {
                uint64_t most = bytes_of(&asked, o);

                bytes = most > bytes ? most : bytes;
            }
        }
    }
    return ag_memory_placed(bytes);
}

/* Sums of gradients run beside the others. */
static uint64_t staged_by_gradients(const asked_t *asked, const ag_op_t *op)
{
    return op->stream == AG_STREAM_GRAD ? staged_by(asked, op) : 0;
}

static uint64_t staged_by_others(const asked_t *asked, const ag_op_t *op)
{
    return op->stream != AG_STREAM_GRAD ? staged_by(asked, op) : 0;
}

uint64_t ag_memory_staged(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank)
{
    return ag_memory_placed(most_of(build, programs, rank, staged_by_others));
}

uint64_t ag_memory_staged_gradients(const ag_build_t *build, const ag_programs_t *programs,
                                    uint32_t rank)
{
    return ag_memory_placed(most_of(build, programs, rank, staged_by_gradients));
}

/* Of an operation that exchanges numbers, where rows may go by host; else 0. */
static uint64_t ranks_of_numbers(const asked_t *asked, const ag_op_t *op)
{
    return is_of_numbers(op) && ag_programs_may_go_by_host(asked->programs, op->subject)
               ? AG_ITEMS(&asked->program->groups, ag_program_group_t)[op->subject].n_ranks
               : 0;
}

static uint64_t all_counts_of(const asked_t *asked, const ag_op_t *op)
{
    uint64_t n_ranks = ranks_of_numbers(asked, op);

    return n_ranks * n_ranks * sizeof(uint64_t);
}

uint64_t ag_memory_all_counts(const ag_programs_t *programs, uint32_t rank)
{
    return most_of(NULL, programs, rank, all_counts_of);
}

/* As many as this rank has: one for each expert on each rank. */
static uint64_t numbers_of(const asked_t *asked, const ag_op_t *op)
{
    const ag_rank_program_t *r = &asked->program->ranks[asked->rank];

    return is_of_numbers(op)
               ? ranks_of_numbers(asked, op) *
                     AG_ITEMS(&r->buffers, ag_buffer_t)[ag_op_uses(r, op)[0].buffer].bytes
               : 0;
}

uint64_t ag_memory_numbers(const ag_programs_t *programs, uint32_t rank)
{
    return most_of(NULL, programs, rank, numbers_of);
}

/* The buffers of an operation that go by way of the host. */
static uint64_t placed_of(const ag_rank_program_t *rank, const ag_op_t *op)
{
    uint32_t n_uses = op->kind != AG_OP_SEGMENT ? op->n_uses : ag_op_reads_numbers(rank, op);
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < n_uses; i++) {
        uint32_t buffer = ag_op_uses(rank, op)[i].buffer;

        bytes += ag_memory_placed(AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer].bytes);
    }
    return bytes;
}

uint64_t ag_memory_place(const ag_programs_t *programs, uint32_t rank, uint32_t stream)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        const ag_rank_program_t *r = &programs->programs[i]->ranks[rank];

        for (uint32_t op = 0; op < r->ops.n_items; op++) {
            uint64_t placed = placed_of(r, &ag_rank_ops(r)[op]);

            bytes = ag_rank_ops(r)[op].stream == stream && placed > bytes ? placed : bytes;
        }
    }
    return bytes;
}

uint64_t ag_memory_results(const ag_programs_t *programs, uint32_t rank)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < programs->n && rank == 0; i++) {
        const ag_program_t *program = programs->programs[i];
        uint64_t output =
            AG_ITEMS(&program->ranks[0].buffers, ag_buffer_t)[program->output_buffer].bytes;

        bytes = output > bytes ? output : bytes;
    }
    return bytes;
}

uint64_t ag_memory_messages(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                            bool staged)
{
    uint64_t bytes = ag_memory_staged(build, programs, rank) +
                     ag_memory_staged_gradients(build, programs, rank) +
                     ag_memory_all_counts(programs, rank) +
                     ag_plan_slots(build->plan) * ag_memory_numbers(programs, rank);

    if (staged) {
        bytes += ag_memory_placed(ag_memory_results(programs, rank));
        for (uint32_t stream = 0; stream < AG_N_STREAMS; stream++) {
            bytes += ag_memory_place(programs, rank, stream);
        }
    }
    return bytes;
}

uint64_t ag_memory_device_steps(const ag_build_t *build, const ag_programs_t *programs)
{
    uint64_t ints =
        ag_memory_step_ints(build->plan, programs) + 2 * ag_memory_begins_ints(programs);

    return ag_plan_steps(build->plan) * ints * sizeof(int32_t);
}

uint64_t ag_memory_begins_ints(const ag_programs_t *programs)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        uint64_t n = programs->programs[i]->bounds[AG_SIZE_SEQUENCES] + 1;

        most = n > most ? n : most;
    }
    return most;
}

size_t ag_memory_step_ints(const ag_plan_t *plan, const ag_programs_t *programs)
{
    size_t most = 0;

    for (uint32_t i = 0; i < programs->n; i++) {
        size_t n = ag_wire_ints(plan, programs->programs[i]->bounds);

        most = n > most ? n : most;
    }
    return most;
}

/* On their way on every rank; rank 0 also makes them. */
static uint64_t steps_of(const ag_plan_t *plan, const ag_programs_t *programs, uint32_t rank)
{
    return ag_wire_bytes(plan, rank, ag_memory_step_ints(plan, programs)) +
           (rank == 0 && plan->train.sequence_tokens == 0 ? ag_generate_bytes(plan) : 0) +
           (plan->train.sequence_tokens > 0 ? ag_plan_steps(plan) * sizeof(ag_step_t) : 0);
}

ag_memory_t ag_memory_foretell(const ag_build_t *build, const ag_programs_t *programs,
                               uint32_t rank, uint32_t n_threads, bool staged)
{
    const ag_params_t *params = &build->ranks[rank].params;
    ag_memory_t memory = {0};

#define PART(part, n_bytes, region)                                                                \
    memory.parts[memory.n_parts++] =                                                               \
        (ag_memory_part_t){.name = part, .bytes = n_bytes, .is_region = region}
    PART("weights", params->bytes, true);
    if (build->plan->train.sequence_tokens > 0) {
        PART("moments", 2 * ag_memory_moments(build, rank), true);
    } else {
        PART("kv cache", ag_memory_kv(build, rank), true);
    }
    PART("activations", ag_plan_slots(build->plan) * ag_memory_slot(programs, rank), true);
    PART("kernel scratch", n_threads * ag_memory_thread_scratch(programs, rank), true);
    PART("messages", ag_memory_messages(build, programs, rank, staged), true);
    if (staged) {
        PART("steps at the device", ag_memory_device_steps(build, programs), true);
    }
    PART("steps", steps_of(build->plan, programs, rank), false);
    PART("loading", ag_params_load_bytes(params, n_threads, staged), false);
#undef PART
    return memory;
}

ag_status_t ag_memory_check(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                            uint32_t n_threads, bool staged)
{
    ag_memory_t memory = ag_memory_foretell(build, programs, rank, n_threads, staged);
    char parts[64 * AG_MAX_MEMORY_PARTS] = "";
    uint64_t total = 0;

    for (uint32_t i = 0; i < memory.n_parts; i++) {
        total += memory.parts[i].bytes;
        ag_line_append(parts, sizeof(parts), "%s%s %llu", i > 0 ? ", " : "", memory.parts[i].name,
                       (unsigned long long)memory.parts[i].bytes);
    }
    return build->plan->n_budgets == 0 || total <= build->plan->budget_bytes[rank]
               ? AG_OK
               : ag_fail(AG_ERR_BUDGET,
                         "rank %u: its programs and what they work on take %llu bytes (%s), its "
                         "budget is %llu",
                         rank, (unsigned long long)total, parts,
                         (unsigned long long)build->plan->budget_bytes[rank]);
}
