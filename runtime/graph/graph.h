/*
 * A segment's inside: a straight list of nodes over values. Values of (counter, width) float32 are
 * either a program's buffer, seen by other operations, or internal to the segment. Training may
 * round values that nothing but products and the like read to bfloat16.
 */
#pragma once

#include "runtime/base/array.h"
#include "runtime/base/clock.h"
#include "runtime/kernel/kernel.h"
#include "runtime/kernel/train.h"
#include "runtime/task/trace.h"

typedef enum ag_node_kind {
    AG_NODE_EMBED,
    AG_NODE_NORM,
    AG_NODE_PREPARE, /* made by compiling: rows in the form that LINEAR takes */
    AG_NODE_LINEAR,
    AG_NODE_ANGLES,
    AG_NODE_ROPE,
    AG_NODE_HEAD_COLUMNS,
    AG_NODE_KV_APPEND,
    AG_NODE_ATTENTION,
    AG_NODE_ATTENTION_PARTS, /* made by compiling, with the next: ATTENTION of few rows */
    AG_NODE_ATTENTION_MERGE,
    AG_NODE_GLU,
    AG_NODE_ACT,
    AG_NODE_GATE_ROWS,
    AG_NODE_ADD,
    AG_NODE_SOFTCAP,
    AG_NODE_SELECT,
    AG_NODE_COLUMNS,
    AG_NODE_ROUTE,
    AG_NODE_COUNT_ROWS,
    AG_NODE_PERMUTE,
    AG_NODE_REGROUP,
    AG_NODE_GROUPED_LINEAR,
    AG_NODE_HEAD_LINEAR,
    AG_NODE_COMBINE,
    /* training: */
    AG_NODE_SELF_ATTENTION, /* of the step's rows among themselves, without a cache */
    AG_NODE_LOSS_STATISTICS,
    AG_NODE_LOSS,
    AG_NODE_ADD_LOSSES,
    AG_NODE_ROUND,       /* a copy to be kept */
    AG_NODE_LINEAR_GRAD, /* <operator>_GRAD: of its input, _WEIGHT_GRAD: of its weight */
    AG_NODE_LINEAR_WEIGHT_GRAD,
    AG_NODE_NORM_GRAD,
    AG_NODE_NORM_WEIGHT_GRAD,
    AG_NODE_ROPE_GRAD,
    AG_NODE_SELF_ATTENTION_GRAD,
    AG_NODE_SINKS_GRAD, /* of SELF_ATTENTION's weight */
    AG_NODE_GLU_GRAD,
    AG_NODE_ACT_GRAD,
    AG_NODE_GATE_ROWS_GRAD,
    AG_NODE_EMBED_WEIGHT_GRAD,
    AG_NODE_SELECT_GRAD,
    AG_NODE_ROUTE_GRAD,
    AG_NODE_PERMUTE_GRAD,
    AG_NODE_GROUPED_LINEAR_GRAD,
    AG_NODE_GROUPED_LINEAR_WEIGHT_GRAD,
    AG_NODE_COMBINE_GRAD,
    AG_NODE_ROUTER_STATISTICS, /* of losses that keep a router usable */
    AG_NODE_ROUTER_LOSS_GRAD,
    AG_NODE_ZERO,
    AG_NODE_SUM_SQUARES,
    AG_NODE_TOTALS,
    AG_NODE_ADAMW,
    AG_NODE_PUBLISH, /* elements of a weight that were changed here, to other ranks */
    AG_NODE_ADOPT,   /* and from them */
    AG_N_NODE_KINDS,
} ag_node_kind_t;

enum { AG_KV_BLOCK_TOKENS = 32 }; /* positions in a block of the KV cache */
enum { AG_MAX_SIGHTS = 4 };       /* ways in which layers differ in what positions a row sees */

/* What TOTALS makes: of this rank, and when summed over the ranks of all. */
typedef enum ag_total {
    AG_TOTAL_LOSS,    /* sum over the targets, not scaled */
    AG_TOTAL_SQUARES, /* of gradients */
    AG_N_TOTALS,
} ag_total_t;

enum { AG_NO_VALUE = -1, AG_NO_PARAM = -1, AG_INTERNAL = -1 };
enum { AG_NODE_MAX_IN = 6, AG_NODE_MAX_MORE = 2 };

typedef struct ag_value {
    ag_counter_t counter;
    uint32_t width;
    int32_t buffer;       /* the program's buffer, or AG_INTERNAL */
    uint64_t begin_bytes; /* in that buffer */
    bool rounded;         /* bfloat16; compiling says so of internal ones */
    bool is_packed;       /* it lies there from its first row on, wherever the step's rows begin */
    /* of an internal one, set by compiling: */
    bool is_own;           /* each thread has a copy, and makes all of it */
    uint64_t offset_bytes; /* in the segment's scratch, or in each thread's */
} ag_value_t;

/* A weight as this rank holds it: (rows, cols), or a vector (1, cols). */
typedef struct ag_graph_param {
    ag_dtype_t dtype; /* as held */
    ag_packing_t packing;
    uint64_t rows, cols; /* of the slice; either may be 0 */
    uint64_t file_bytes; /* of the slice in the file's encoding */
    const void *data;    /* NULL until loaded */
    /* training: */
    float *trained;              /* data, to be changed; else NULL */
    uint64_t own_begin, own_end; /* elements that this rank's optimizer changes */
    float *moments[2];           /* of each of those, first and second */
    bool decays;                 /* the optimizer's weight decay is for it */
} ag_graph_param_t;

typedef struct ag_node {
    ag_node_kind_t kind;
    uint32_t layer;                 /* KV_APPEND and ATTENTION: index of the KV cache */
    int32_t in[AG_NODE_MAX_IN];     /* values; AG_NO_VALUE where unused */
    int32_t out;                    /* may be one of in: the node works in place */
    int32_t more[AG_NODE_MAX_MORE]; /* further outputs of an operator that has some */
    bool adds;                      /* to what stands in its output */
    int32_t weight, bias; /* params, or AG_NO_PARAM; of GROUPED_LINEAR and HEAD_LINEAR the first
                             group's, the others' follow; of ATTENTION and SELF_ATTENTION the sinks,
                             if any, of ROUTE what is preferred */
    union {
        struct {
            uint64_t vocab_begin;
            float scale;
            bool by_position; /* rows of the table are positions' */
        } embed;
        struct {
            ag_norm_kind_t kind;
            float eps;
            uint32_t n_groups; /* of columns, each normed for itself by the same weights; 0: 1 */
        } norm;
        ag_angles_t angles;
        ag_rope_t rope;
        ag_head_columns_t head_columns;
        struct {
            uint32_t n_kv_heads, head_dim, value_dim; /* as ag_kv_t has them */
        } kv;
        struct {
            ag_attention_t args;
            uint32_t n_kv_heads, head_dim, value_dim;
            uint32_t sight; /* of the cost's shape */
        } attention;
        ag_glu_t glu;
        float cap;             /* SOFTCAP */
        uint32_t column_begin; /* COLUMNS: of the wider value */
        struct {
            ag_route_t of;
            uint32_t part, part_end, n_parts; /* of a step's rows: whose gradients this rank takes,
                                                 as ag_places_t has them */
        } route;
        ag_places_t places; /* COUNT_ROWS, PERMUTE, COMBINE; their tables are borrowed */
        struct {
            uint32_t n_groups, n_sources; /* of the counts; of HEAD_LINEAR the heads */
            uint32_t n_used, n_experts;   /* for the cost: each row uses some of all */
            bool back;                    /* REGROUP */
            /* GROUPED_LINEAR_WEIGHT_GRAD: floats from a group's weight to the next, and bias */
            uint64_t grad_stride, bias_grad_stride;
        } groups;
        struct {
            ag_self_attention_t args;
            uint32_t sight; /* of the cost's shape */
        } self_attention;
        uint64_t first_element; /* ADAMW, PUBLISH, ADOPT: of the weight */
        ag_loss_t loss;
    } attr;
    /* set by compiling: */
    uint32_t grain; /* columns that a thread takes together; 0: it takes rows */
    bool barrier_before;
} ag_node_t;

typedef struct ag_graph {
    ag_array_t values; /* ag_value_t */
    ag_array_t nodes;  /* ag_node_t */
    /* set by compiling: */
    uint64_t scratch_bytes;        /* internal values */
    uint64_t thread_scratch_bytes; /* of each thread: kernels', then its own values */
    uint64_t own_offset_bytes;     /* where those begin */
    uint64_t claims_offset_bytes;  /* where claims stand, of thread_scratch_bytes */
    uint32_t n_claims;             /* layers of many rows, in which threads help each other */
    bool exact;
    bool trains; /* weights are plain, and change */
} ag_graph_t;

/** Does a graph round what may be rounded? Training that is not exact does. */
static inline bool ag_graph_rounds(const ag_graph_t *graph)
{
    return graph->trains && !graph->exact;
}

void ag_graph_init(ag_graph_t *graph);
void ag_graph_fini(ag_graph_t *graph);

/** Add a value; a buffer that the graph already has gives that value again. @return its number or <
 * 0. */
int32_t ag_graph_value(ag_graph_t *graph, ag_counter_t counter, uint32_t width, int32_t buffer);

/** The same of a part of a buffer, which holds several values. */
int32_t ag_graph_value_at(ag_graph_t *graph, ag_counter_t counter, uint32_t width, int32_t buffer,
                          uint64_t begin_bytes);

/** The value is held as bfloat16. */
void ag_graph_round(ag_graph_t *graph, int32_t value);

/**
 * Add a node after checking its shapes against params.
 * @return AG_OK, AG_ERR_INVALID (names the node and the shapes, or it reads what is rounded and
 *         cannot), AG_ERR_NOMEM.
 */
ag_status_t ag_graph_add(ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params);

/** Take out what only leads to a buffer that nobody reads. @return AG_OK, AG_ERR_NOMEM. */
ag_status_t ag_graph_drop(ag_graph_t *graph, int32_t buffer);

/**
 * Cut a graph behind the nodes it begins with that work on each row by itself (norms, additions).
 * What the others read of theirs must be one value, the last where they read none, which gets a
 * buffer; if it has one, a copy.
 * @param rows, rest  appended to.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: the others read several such values.
 */
ag_status_t ag_graph_cut_rows(ag_graph_t *graph, int32_t buffer, ag_graph_t *rows,
                              ag_graph_t *rest);

/** Append next's nodes behind the last that writes a buffer; all where none does. */
ag_status_t ag_graph_append_after(ag_graph_t *graph, const ag_graph_t *next, int32_t buffer);

/** Append next's nodes to graph; values of the same buffer become one, and so do the same angles.
 */
ag_status_t ag_graph_append(ag_graph_t *graph, const ag_graph_t *next);

/**
 * Choose how few or many rows are worked on, give internal values their places in scratch, and put
 * barriers where a node touches what another thread may still read or have written.
 * @param bounds  (AG_N_COUNTERS) the most that a step of this class has.
 * @param exact   float32 products.
 */
ag_status_t ag_graph_compile(ag_graph_t *graph, const uint64_t *bounds,
                             const ag_graph_param_t *params, bool exact);

/* Kernels are told apart by kind of node and by type of weight (AG_F32 where there is none). */

/* Where the time of runs went. */
typedef struct ag_profile {
    uint64_t ns[AG_N_NODE_KINDS][AG_N_DTYPES];
    uint64_t barrier_ns; /* waiting for the team's other threads */
} ag_profile_t;

void ag_profile_add(ag_profile_t *sum, const ag_profile_t *one);

/* What a run needs besides the graph. */
typedef struct ag_graph_run {
    const ag_graph_t *graph;
    const ag_step_t *step;
    const ag_graph_param_t *params;
    const ag_kv_t *kv;             /* by node->layer */
    unsigned char *memory;         /* of the slot */
    const uint64_t *offsets;       /* of the program's buffers in it, by value->buffer */
    uint64_t first_row;            /* of buffers counted in tokens: where the step's rows begin */
    uint64_t scratch_offset;       /* of graph->scratch_bytes in it */
    unsigned char *thread_scratch; /* threads * thread_scratch_stride */
    uint64_t thread_scratch_stride;
    bool has_claims; /* ag_graph_begin() was called: threads help each other */
    const ag_yield_t *yield;
    const ag_before_write_t *before_write; /* told of weights and moments; NULL: nobody is */
    ag_gemm_cache_t *gemm;
    const ag_isa_t *isa;
    const ag_clock_t *clock;     /* of the profile */
    ag_profile_t *profile;       /* of thread 0, added to; NULL: none */
    ag_trace_t *trace;           /* of thread 0's nodes; NULL: none */
    uint32_t track;              /* of the trace */
    uint64_t n_sent, n_received; /* AG_COUNT_SENT, AG_COUNT_RECEIVED of this run */
    float
        *least_gap; /* of COUNT_ROWS' routes, where it is less than what stands there; NULL: none */
} ag_graph_run_t;

/** To be called before each region of the run that is to have threads help each other. */
void ag_graph_begin(ag_graph_run_t *run, unsigned n_threads);

/** A region function (runtime/base/team.h): arg is an ag_graph_run_t. */
void ag_graph_region(void *arg, const ag_worker_t *worker);

/* What a graph costs for a step of these sizes; the limit and the simulator read it. */
typedef struct ag_cost_shape {
    double counts[AG_N_COUNTERS];
    /* by what layers' rows see: */
    double attended[AG_MAX_SIGHTS];     /* (query, key) pairs: sum over tokens of the positions each
                                           sees */
    double kv_positions[AG_MAX_SIGHTS]; /* positions read from the cache, summed over sequences */
    double kv_bytes_per_element;
} ag_cost_shape_t;

typedef struct ag_cost {
    double ops[AG_N_GEMM_KINDS]; /* by the type computed in: 2 per weight and row; causal attention
                                    only what is seen */
    double bytes; /* weights in the file's encoding, an embedding table only the rows used; KV */
} ag_cost_t;

/** By kernel. */
typedef struct ag_costs {
    ag_cost_t of[AG_N_NODE_KINDS][AG_N_DTYPES];
} ag_costs_t;

/** Add a graph's. */
void ag_graph_cost(const ag_graph_t *graph, const ag_graph_param_t *params,
                   const ag_cost_shape_t *shape, ag_costs_t *costs);

ag_cost_t ag_costs_sum(const ag_costs_t *costs);

const char *ag_node_name(ag_node_kind_t kind);
