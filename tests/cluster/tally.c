#include "tally.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph.h"

enum { MOST_ROWS = 192, ROW_BYTES = 64 };

typedef struct row {
    char name[ROW_BYTES];
    bool must; /* be met often */
    uint64_t n;
} row_t;

struct tally {
    row_t rows[MOST_ROWS];
    uint32_t n_rows;
};

static const char *const collective_names[AG_N_COLLECTIVES] = {
    [AG_ALL_REDUCE] = "all-reduce", [AG_REDUCE_SCATTER] = "reduce-scatter",
    [AG_ALL_GATHER] = "all-gather", [AG_ALL_TO_ALL] = "all-to-all",
    [AG_BROADCAST] = "broadcast",
};

static const char *const algorithm_names[AG_N_ALGORITHMS] = {
    [AG_DIRECT] = "direct",   [AG_DOUBLING] = "doubling", [AG_TREE] = "tree",
    [AG_BY_HOST] = "by host", [AG_RING] = "ring",         [AG_PAIRWISE] = "pairwise",
};

/* Kinds of operations that jobs which train have alone; those here do not yet. */
static const bool of_training[AG_N_OP_KINDS] = {[AG_OP_REDUCE_SCATTER] = true};

/* What every two thousand cases have to meet; what depends on what is known (families, types,
 * kinds of operations, transfer lists) is added to it. */
static const char *const musts[] = {
    "pass expand",
    "pass tensor",
    "pass fuse",
    "pass split",
    "pass compile",
    "pass expert",
    "pass place",
    "unit heads, uneven",
    "unit columns, uneven",
    "unit vocabulary, uneven",
    "unit layers, uneven",
    "unit experts, uneven",
    "an expert on several ranks",
    "attention whole beside experts",
    "empty share of experts",
    "empty share of heads",
    "empty share of columns",
    "empty share of vocabulary",
    "boundary of equal stages",
    "boundary to a wider stage",
    "boundary to a narrower stage",
    "ranks out of order",
    "key-value heads replicated",
    "program class of decode",
    "program class of prefill",
    "logits of every row",
    "logits of last rows",
    "file gguf",
    "file safetensors",
    "rope default",
    "rope linear",
    "rope llama3",
    "rope yarn",
    "tied embeddings",
    "attention biases",
    "feed-forward biases",
    "window",
    "window of several blocks",
    "layers with a window and without",
    "capped scores",
    "sinks",
    "norms before",
    "norms after",
    "norm of each head",
    "shared expert",
    "shared expert with a gate",
    "experts in groups",
    "router of sigmoids",
    "experts with biases and limits",
    "latent keys and values",
    "latent keys and values, a tensor each",
    "layers with experts and without",
    "norm of all heads",
    "norms with biases",
    "positions of a table",
    "plain feed-forward",
    "rope of a part",
    "compute f32",
    "compute auto",
    "ranks 1",
    "ranks 2",
    "ranks 3",
    "ranks 4",
    "ranks 5",
    "ranks 6 and more",
    "sequences 1",
    "sequences 2",
    "sequences 3",
    "sequence of several blocks",
    "steps in flight",
    "hosts 1",
    "hosts 2",
    "hosts 3",
    "hosts of unlike numbers of ranks",
    "step with a sum by host",
    "step with rows of experts by host",
    "budget as foretold",
    "plan that leaves a rank nothing",
    "order changed, same bits",
    "lazy devices",
    "lazy devices, the CPU's bits",
    "prompts answered at once",
    "prompt that waits for another's end",
    "prompts that decode in one step",
    "prompts answered by draws",
    "death",
    "death told",
};

static row_t *find_row(tally_t *tally, const char *name)
{
    for (uint32_t i = 0; i < tally->n_rows; i++) {
        if (strcmp(tally->rows[i].name, name) == 0) {
            return &tally->rows[i];
        }
    }
    if (tally->n_rows == MOST_ROWS) {
        abort();
    }
    snprintf(tally->rows[tally->n_rows].name, ROW_BYTES, "%s", name);
    return &tally->rows[tally->n_rows++];
}

static void add_must(tally_t *tally, const char *prefix, const char *name, const char *ending)
{
    char text[ROW_BYTES];

    snprintf(text, sizeof(text), "%s%s%s", prefix, name, ending);
    find_row(tally, text)->must = true;
}

static void transfer_name(ag_collective_t collective, ag_algorithm_t algorithm,
                          char name[ROW_BYTES])
{
    snprintf(name, ROW_BYTES, "transfer list %s, %s", collective_names[collective],
             algorithm_names[algorithm]);
}

tally_t *tally_create(void)
{
    tally_t *tally = calloc(1, sizeof(*tally));

    if (tally == NULL) {
        abort();
    }
    for (size_t i = 0; i < sizeof(musts) / sizeof(musts[0]); i++) {
        add_must(tally, "", musts[i], "");
    }
    for (const family_t *family = families; family->name != NULL; family++) {
        if (family_is_known(family)) {
            add_must(tally, "family ", family->name, "");
        }
    }
    for (int type = 0; type < AG_N_DTYPES; type++) {
        if (ag_dtype_info((ag_dtype_t)type)->ggml_type >= 0) {
            add_must(tally, "type ", ag_dtype_info((ag_dtype_t)type)->name, "");
        }
    }
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        if (!of_training[kind]) {
            add_must(tally, "operation ", ag_op_infos[kind].name, "");
        }
    }
    for (int c = 0; c < AG_N_COLLECTIVES; c++) {
        for (int a = 0; a < AG_N_ALGORITHMS; a++) {
            if (ag_transfer_is_offered((ag_collective_t)c, (ag_algorithm_t)a)) {
                char name[ROW_BYTES];

                transfer_name((ag_collective_t)c, (ag_algorithm_t)a, name);
                add_must(tally, name, "", "");
            }
        }
    }
    return tally;
}

void tally_destroy(tally_t *tally)
{
    free(tally);
}

void tally_add(tally_t *tally, const char *name, uint64_t n)
{
    find_row(tally, name)->n += n;
}

static void add_if(tally_t *tally, bool met, const char *name)
{
    tally_add(tally, name, met);
}

static void add_named(tally_t *tally, const char *prefix, const char *name)
{
    char text[ROW_BYTES];

    snprintf(text, sizeof(text), "%s%s", prefix, name);
    tally_add(tally, text, 1);
}

void tally_transfer(tally_t *tally, ag_collective_t collective, ag_algorithm_t algorithm)
{
    char name[ROW_BYTES];

    transfer_name(collective, algorithm, name);
    tally_add(tally, name, 1);
}

uint32_t tally_print(const tally_t *tally, uint64_t least, FILE *file)
{
    uint32_t n_short = 0;

    for (uint32_t i = 0; i < tally->n_rows; i++) {
        const row_t *row = &tally->rows[i];
        bool is_short = row->must && row->n < least;

        fprintf(file, "%8llu  %s%s\n", (unsigned long long)row->n, row->name,
                is_short ? "  <- too seldom" : "");
        n_short += is_short;
    }
    return n_short;
}

static void tally_kinds_of_experts(tally_t *tally, const ag_spec_t *spec)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec, spec->n_layers - 1);

    add_if(tally, kind->shared_width > 0, "shared expert");
    add_if(tally, kind->shared_is_gated, "shared expert with a gate");
    add_if(tally, kind->route.n_groups > 1, "experts in groups");
    add_if(tally, kind->route.n_experts > 0 && kind->route.score == AG_SCORE_SIGMOID,
           "router of sigmoids");
    add_if(tally, kind->router_bias && kind->ffn_limit > 0, "experts with biases and limits");
    add_if(tally, kind->kv_rank > 0, "latent keys and values");
    add_if(tally, kind->route.n_experts > 0 && ag_spec_layer(spec, 0)->route.n_experts == 0,
           "layers with experts and without");
}

static void tally_model(tally_t *tally, const cluster_case_t *c, const ag_model_t *model)
{
    static const char *const ropes[] = {
        [AG_ROPE_DEFAULT] = "rope default",
        [AG_ROPE_LINEAR] = "rope linear",
        [AG_ROPE_LLAMA3] = "rope llama3",
        [AG_ROPE_YARN] = "rope yarn",
    };
    const ag_layer_spec_t *kind = &model->spec->layer_kinds[0];
    size_t n_tensors;
    const ag_model_tensor_t *tensors = ag_model_files_tensors(model->files, &n_tensors);

    add_named(tally, "family ", model->spec->family);
    add_if(tally, c->model.is_split, "latent keys and values, a tensor each");
    tally_add(tally, c->model.is_gguf ? "file gguf" : "file safetensors", 1);
    tally_add(tally, ropes[model->spec->layer_kinds[0].rope.kind], 1);
    add_if(tally, model->spec->tied, "tied embeddings");
    add_if(tally, kind->q_bias, "attention biases");
    add_if(tally, kind->ffn_bias, "feed-forward biases");
    add_if(tally, kind->norms_before, "norms before");
    add_if(tally, kind->norms_after, "norms after");
    add_if(tally, kind->qk_norm == AG_QK_NORM_HEADS, "norm of each head");
    add_if(tally, kind->qk_norm == AG_QK_NORM_WHOLE, "norm of all heads");
    add_if(tally, model->spec->norm_bias, "norms with biases");
    add_if(tally, model->spec->n_positions > 0, "positions of a table");
    add_if(tally, !kind->ffn_is_gated, "plain feed-forward");
    add_if(tally, kind->rope.rotary > 0 && kind->rope.rotary < kind->head_dim, "rope of a part");
    tally_kinds_of_experts(tally, model->spec);
    add_if(tally, c->model.window > 0, "window");
    add_if(tally, c->model.window > AG_KV_BLOCK_TOKENS, "window of several blocks");
    add_if(tally,
           c->model.window > 0 && c->model.period > 1 && c->model.n_layers >= c->model.period,
           "layers with a window and without");
    add_if(tally, c->model.score_cap > 0, "capped scores");
    add_if(tally, model->spec->layer_kinds[0].sinks, "sinks");
    for (int type = 0; type < AG_N_DTYPES; type++) {
        for (size_t i = 0; i < n_tensors; i++) {
            if (tensors[i].dtype == (ag_dtype_t)type && tensors[i].n_dims > 1) {
                add_named(tally, "type ", ag_dtype_info(tensors[i].dtype)->name);
                break;
            }
        }
    }
}

/* Of how many ranks of a stage the ranges are empty, and do two that are not differ? */
typedef struct spread {
    uint32_t n_empty, least, most;
} spread_t;

static void spread_add(spread_t *spread, uint32_t begin, uint32_t end)
{
    uint32_t n = end - begin;

    spread->n_empty += n == 0;
    if (n > 0) {
        spread->least = spread->least == 0 || n < spread->least ? n : spread->least;
        spread->most = n > spread->most ? n : spread->most;
    }
}

static void tally_units(tally_t *tally, const ag_build_t *build)
{
    const ag_plan_t *plan = build->plan;
    spread_t all[4] = {0}; /* heads, columns, vocabulary, layers */
    uint32_t n_empty[3] = {0}, n_uneven[3] = {0};
    bool is_replicated = false;

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        const ag_replica_t *replica = &plan->stages[s].replicas[0];

        memset(all, 0, 3 * sizeof(all[0]));
        for (uint32_t i = 0; i < replica->n_ranks; i++) {
            const ag_shard_t *shard = &build->ranks[replica->ranks[i]].shard;
            const ag_shard_t *before = i > 0 ? &build->ranks[replica->ranks[i - 1]].shard : NULL;

            spread_add(&all[0], shard->layers[0].head_begin, shard->layers[0].head_end);
            spread_add(&all[1], shard->layers[0].ffn_begin, shard->layers[0].ffn_end);
            spread_add(&all[2], shard->vocab_begin, shard->vocab_end);
            is_replicated |= before != NULL &&
                             shard->layers[0].kv_begin < before->layers[0].kv_end &&
                             shard->layers[0].head_end > shard->layers[0].head_begin;
        }
        spread_add(&all[3], plan->stages[s].layer_begin, plan->stages[s].layer_end);
        for (int u = 0; u < 3; u++) {
            n_empty[u] += all[u].n_empty;
            n_uneven[u] += all[u].least < all[u].most;
        }
    }
    add_if(tally, n_uneven[0] > 0, "unit heads, uneven");
    add_if(tally, n_uneven[1] > 0, "unit columns, uneven");
    add_if(tally, n_uneven[2] > 0, "unit vocabulary, uneven");
    add_if(tally, all[3].least < all[3].most, "unit layers, uneven");
    add_if(tally, n_empty[0] > 0, "empty share of heads");
    add_if(tally, n_empty[1] > 0, "empty share of columns");
    add_if(tally, n_empty[2] > 0, "empty share of vocabulary");
    add_if(tally, is_replicated, "key-value heads replicated");
}

static void tally_experts(tally_t *tally, const ag_build_t *build)
{
    const ag_plan_t *plan = build->plan;
    bool is_uneven = false, is_empty = false, is_shared = false, is_whole = false;

    for (uint32_t s = 0; s < plan->n_stages && plan->stages[s].experts.n_experts > 0; s++) {
        const ag_replica_t *replica = &plan->stages[s].replicas[0];
        const ag_holders_t *holders = &plan->stages[s].experts;
        spread_t spread = {0};

        for (uint32_t i = 0; i < replica->n_ranks; i++) {
            spread_add(&spread, 0, build->ranks[replica->ranks[i]].shard.experts.n_held);
        }
        is_uneven |= spread.least < spread.most;
        is_empty |= spread.n_empty > 0;
        is_shared |= holders->begin[holders->n_experts] > holders->n_experts;
        is_whole |= replica->n_ranks > 1 && replica->tensor_ranks == 1;
    }
    add_if(tally, is_uneven, "unit experts, uneven");
    add_if(tally, is_empty, "empty share of experts");
    add_if(tally, is_shared, "an expert on several ranks");
    add_if(tally, is_whole, "attention whole beside experts");
}

static void tally_plan(tally_t *tally, const ag_plan_t *plan)
{
    uint32_t n_ranks = ag_plan_ranks(plan), next = 0;
    bool in_order = true;
    char name[ROW_BYTES];

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        const ag_replica_t *replica = &plan->stages[s].replicas[0];
        uint32_t before = s > 0 ? plan->stages[s - 1].replicas[0].n_ranks : 0;

        for (uint32_t i = 0; i < replica->n_ranks; i++) {
            in_order = in_order && replica->ranks[i] == next++;
        }
        add_if(tally, s > 0 && before == replica->n_ranks, "boundary of equal stages");
        add_if(tally, s > 0 && before < replica->n_ranks, "boundary to a wider stage");
        add_if(tally, s > 0 && before > replica->n_ranks, "boundary to a narrower stage");
    }
    add_if(tally, !in_order, "ranks out of order");
    snprintf(name, sizeof(name), n_ranks < 6 ? "ranks %u" : "ranks 6 and more", n_ranks);
    tally_add(tally, name, 1);
    snprintf(name, sizeof(name), "sequences %u", plan->n_sequences);
    tally_add(tally, name, 1);
    tally_add(tally, plan->compute == AG_COMPUTE_F32 ? "compute f32" : "compute auto", 1);
}

static void tally_hosts(tally_t *tally, const cluster_case_t *c)
{
    uint32_t n_unlike = 0, first = 0;
    char name[ROW_BYTES];

    for (uint32_t r = 0; r < c->n_ranks; r++) {
        uint32_t n = 0;

        for (uint32_t other = 0; other < c->n_ranks; other++) {
            n += c->hosts[other] == c->hosts[r];
        }
        first = r == 0 ? n : first;
        n_unlike += n != first;
    }
    add_if(tally, n_unlike > 0, "hosts of unlike numbers of ranks");
    snprintf(name, sizeof(name), "hosts %u", c->n_hosts);
    tally_add(tally, name, 1);
}

static bool share_bytes(const ag_rank_program_t *rank)
{
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);

    for (size_t i = 0; i < rank->buffers.n_items; i++) {
        for (size_t j = 0; j < i; j++) {
            if (buffers[i].offset_bytes < buffers[j].offset_bytes + buffers[j].bytes &&
                buffers[j].offset_bytes < buffers[i].offset_bytes + buffers[i].bytes) {
                return true;
            }
        }
    }
    return false;
}

/* What each pass leaves in a program where it had something to do. */
typedef struct traces {
    bool op_kinds[AG_N_OP_KINDS];
    bool joins, halves, scratch, shares;
} traces_t;

static void trace_rank(const ag_rank_program_t *rank, traces_t *traces)
{
    for (size_t i = 0; i < rank->ops.n_items; i++) {
        traces->op_kinds[ag_rank_ops(rank)[i].kind] = true;
        traces->halves |= ag_rank_ops(rank)[i].half != AG_HALF_BOTH;
    }
    for (size_t i = 0; i < rank->segments.n_items; i++) {
        const ag_segment_t *segment = &AG_ITEMS(&rank->segments, ag_segment_t)[i];
        const ag_graph_t *graph = segment->inside;

        traces->joins |= segment->parts.n_items > 1;
        traces->scratch |= graph != NULL && graph->scratch_bytes > 0;
    }
    traces->shares |= share_bytes(rank);
}

static void tally_programs(tally_t *tally, const ag_programs_t *programs)
{
    traces_t traces = {0};

    for (uint32_t i = 0; i < programs->n; i++) {
        for (uint32_t r = 0; r < programs->programs[i]->n_ranks; r++) {
            trace_rank(&programs->programs[i]->ranks[r], &traces);
        }
    }
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        if (traces.op_kinds[kind]) {
            add_named(tally, "operation ", ag_op_infos[kind].name);
        }
    }
    add_if(tally, traces.op_kinds[AG_OP_SEGMENT], "pass expand");
    add_if(tally, traces.op_kinds[AG_OP_ALL_REDUCE], "pass tensor");
    add_if(tally, traces.op_kinds[AG_OP_ALL_TO_ALL], "pass expert");
    add_if(tally, traces.joins, "pass fuse");
    add_if(tally, traces.halves, "pass split");
    add_if(tally, traces.scratch, "pass compile");
    add_if(tally, traces.shares, "pass place");
}

static void tally_work(tally_t *tally, const cluster_case_t *c, const ag_programs_t *programs)
{
    bool is_long = false;

    for (uint32_t i = 0; i < c->work.n_steps; i++) {
        const work_step_t *step = &c->work.steps[i];
        uint64_t n_rows = 0, n_outputs = 0;

        for (uint32_t s = 0; s < c->work.n_sequences; s++) {
            is_long |= step->position[s] > AG_KV_BLOCK_TOKENS && step->n_rows[s] > 0;
            n_rows += step->n_rows[s];
            n_outputs += step->n_outputs[s];
        }
        add_if(tally, n_rows <= programs->programs[0]->bounds[AG_SIZE_TOKENS],
               "program class of decode");
        add_if(tally, n_rows > programs->programs[0]->bounds[AG_SIZE_TOKENS],
               "program class of prefill");
        add_if(tally, n_outputs == 0, "step without logits");
    }
    add_if(tally, is_long, "sequence of several blocks");
    add_if(tally, c->is_lazy, "lazy devices");
    add_if(tally, c->is_lazy && c->has_death && c->n_ranks > 1, "death beside lazy devices");
    tally_add(tally, c->last_outputs_only ? "logits of last rows" : "logits of every row", 1);
    add_if(tally, c->has_budget, "budget as foretold");
    tally_add(tally, "plan that leaves a rank nothing", c->n_refused);
    tally_add(tally, "plan that is not supported", c->n_unsupported);
}

ag_status_t tally_case(tally_t *tally, const cluster_case_t *c)
{
    ag_model_t *model = NULL;
    ag_json_t *json = NULL;
    ag_plan_t *plan = NULL;
    ag_build_t *build = NULL;
    ag_programs_t programs = {0};
    ag_status_t status = ag_model_open(c->path, &model);

#define THEN(call) status = status == AG_OK ? (call) : status
    THEN(ag_json_parse(c->plan_json, strlen(c->plan_json), "the plan", &json));
    THEN(ag_plan_from_json(json, "the plan", &plan));
    THEN(ag_build_create(plan, model, &build));
    THEN(ag_programs_create(build, !c->last_outputs_only, false, &programs));
#undef THEN
    if (status == AG_OK) {
        tally_model(tally, c, model);
        tally_units(tally, build);
        tally_experts(tally, build);
        tally_plan(tally, plan);
        tally_hosts(tally, c);
        tally_programs(tally, &programs);
        tally_work(tally, c, &programs);
    }
    ag_programs_destroy(&programs);
    ag_build_destroy(build);
    ag_plan_destroy(plan);
    ag_json_destroy(json);
    ag_model_close(model);
    return status;
}
