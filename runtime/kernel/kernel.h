/*
 * CPU kernels. Each is called by every thread of a region with the same arguments and does its
 * share; none waits for another thread. Results do not depend on the number of threads: work is cut
 * at fixed places (panels of columns, rows, heads), and each piece is computed by one thread in one
 * order. Activations are float32, row-major.
 */
#pragma once

#include "runtime/base/team.h"
#include "runtime/kernel/gemm.h"
#include "runtime/kernel/isa.h"
#include "runtime/kernel/packing.h"
#include "runtime/kernel/step.h"
#include "runtime/tensor/tensor.h"

/* Called by thread 0 between panels, so that communication and cancellation are looked at. */
typedef struct ag_yield {
    void (*fn)(void *arg); /* NULL: nothing to do */
    void *arg;
} ag_yield_t;

/* Told by a thread of floats that it is about to change: weights and moments, by the optimizer. */
typedef struct ag_before_write {
    void (*fn)(void *arg, const float *data, uint64_t n); /* NULL: nobody wants to know */
    void *arg;
} ag_before_write_t;

static inline void ag_tell_before_write(const ag_before_write_t *before_write, const float *data,
                                        uint64_t n)
{
    if (before_write != NULL && before_write->fn != NULL) {
        before_write->fn(before_write->arg, data, n);
    }
}

/* What a thread's scratch holds of the last LINEAR: layers of one input follow one another. */
typedef struct ag_prepared {
    const float *x; /* NULL: nothing */
    uint64_t n_rows, k;
    const void *form; /* the kernel that prepared it */
} ag_prepared_t;

/* Elements in memory: float32, or rounded to bfloat16 as training may keep what products read. */
typedef struct ag_elements {
    void *data;
    bool rounded;
} ag_elements_t;

static inline ag_elements_t ag_floats(const float *x)
{
    return (ag_elements_t){.data = (void *)x};
}

static inline size_t ag_element_bytes(bool rounded)
{
    return rounded ? sizeof(uint16_t) : sizeof(float);
}

/** Those from number n on. */
static inline ag_elements_t ag_elements_at(ag_elements_t elements, uint64_t n)
{
    elements.data = (char *)elements.data + n * ag_element_bytes(elements.rounded);
    return elements;
}

/* How far a thread's share of a node's work is taken, by itself or by threads that are through with
 * theirs. */
typedef struct ag_claim {
    _Alignas(64) _Atomic uint32_t n_taken;
} ag_claim_t;

typedef struct ag_kernel_context {
    const ag_worker_t *worker;
    const ag_yield_t *yield;
    const ag_step_t *step;
    void *scratch; /* this thread's own, as much as the kernel asked for, 64-byte aligned */
    ag_prepared_t *prepared; /* this thread's own; NULL: nothing is kept */
    unsigned char *claims; /* thread 0's ag_claim_t of this node; NULL: each does its share alone */
    uint64_t claim_stride; /* bytes to the next thread's */
    struct ag_gemm_cache *gemm; /* runtime/kernel/gemm.h; NULL: no oneDNN */
    const ag_isa_t *isa;        /* NULL: plain C alone, for exact products */
} ag_kernel_context_t;

/* y = x * w^T + bias: one linear layer's slice on one rank. */
typedef struct ag_linear {
    ag_dtype_t dtype; /* of the weight */
    ag_packing_t packing;
    uint64_t n;                   /* output columns held; may be 0 */
    uint64_t k;                   /* input columns held; 0 gives bias or zeros */
    const void *weight;           /* (n, k) */
    const float *bias;            /* (n) or NULL */
    const void *prepared;         /* x, as ag_kernel_prepare() left it; NULL: it did not */
    const struct ag_linear *next; /* whose first weights are called near behind these; NULL: none */
} ag_linear_t;

/* A LINEAR implementation: the first of the list that can do it is taken. */
typedef struct ag_linear_impl {
    const char *name;
    /** May it take this weight? exact: the result must be a float32 product. */
    bool (*can)(const struct ag_gemm_cache *gemm, const ag_isa_t *isa, const ag_linear_t *linear,
                bool exact);
    /** y (rows, n) from x (rows, k). Thread t takes its panels of output columns. */
    void (*run)(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y);
    /** Scratch of each thread, for any number of rows. */
    size_t (*scratch_bytes)(const ag_linear_t *linear);
} ag_linear_impl_t;

/** The implementation for (weight, rows); never NULL: `reference` can do all. gemm and isa may be
 * NULL. */
const ag_linear_impl_t *ag_linear_choose(const struct ag_gemm_cache *gemm, const ag_isa_t *isa,
                                         const ag_linear_t *linear, uint64_t n_rows, bool exact);

/** Columns of y that one thread takes together, whatever the implementation. */
uint32_t ag_linear_grain(ag_packing_t packing);

/**
 * y (n_rows, n) by the implementation that is chosen. With context->prepared, rows of x which the
 * call before brought into the same form are taken from scratch: until x changes or another kernel
 * uses the scratch, when the caller sets prepared->x to NULL.
 */
void ag_kernel_linear(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                      uint64_t n_rows, bool exact, float *y);

/**
 * Bytes of a row of x in the form that this layer multiplies by, a multiple of 4; 0: it takes rows
 * as they are. Layers of one input and one type of weight take the same form.
 */
uint64_t ag_linear_prepared_bytes(const ag_linear_t *linear, bool exact);

/**
 * Bring x (n_rows, k) into that form, each thread its rows: for many rows, which every thread needs
 * all of. A few rows a layer prepares by itself.
 * @param dst  (n_rows, prepared bytes)
 */
void ag_kernel_prepare(const ag_kernel_context_t *context, const ag_linear_t *linear,
                       const float *x, uint64_t n_rows, void *dst);

/** The type that products of this layer are computed in by the fastest way there is: its peak is
 * the limit. */
ag_gemm_kind_t ag_linear_arithmetic(const ag_linear_t *linear, bool exact);

/** Most scratch that an implementation which may be chosen needs, on any machine. */
size_t ag_linear_scratch_bytes(const ag_linear_t *linear);

/* Rows of an embedding table that is cut by vocabulary: ids outside give zero rows. */
typedef struct ag_embed {
    ag_dtype_t dtype;
    ag_packing_t packing;
    uint64_t vocab_begin, vocab_end; /* ids held */
    uint64_t width;
    float scale;       /* multiplies every row; 1 for most models */
    const void *table; /* (vocab_end - vocab_begin, width) */
    bool by_position;  /* ids are the tokens' positions */
} ag_embed_t;
void ag_kernel_embed(const ag_kernel_context_t *context, const ag_embed_t *embed, float *y);

typedef enum ag_norm_kind { AG_NORM_RMS, AG_NORM_LAYER } ag_norm_kind_t;

/* Over each row of x (n_rows, width), or over each group of a row's columns, (n_rows, n_groups,
 * width), by the same weights; y may be x. Scratch where x is rounded: ag_norm_scratch_bytes(). */
typedef struct ag_norm {
    ag_norm_kind_t kind;
    uint64_t width;
    uint64_t n_groups; /* 0: 1 */
    float eps;
    const float *weight; /* (width) */
    const float *bias;   /* (width) or NULL */
} ag_norm_t;
size_t ag_norm_scratch_bytes(uint64_t width);
void ag_kernel_norm(const ag_kernel_context_t *context, const ag_norm_t *norm, ag_elements_t x,
                    uint64_t n_rows, ag_elements_t y);

/* The angles of a step's positions: Su et al. 2021. */
typedef struct ag_angles {
    uint32_t rotary;           /* dimensions of a head that rotate; even */
    float magnitude;           /* multiplies cos and sin (yarn); 1 otherwise */
    const float *inverse_freq; /* (rotary / 2) */
} ag_angles_t;
/** y (tokens, rotary): cosines, then sines; the angle is position * frequency in float32, as
 * transformers'. */
void ag_kernel_angles(const ag_kernel_context_t *context, const ag_angles_t *angles, float *y);

/* Rotate pairs (i, i + rotary / 2) of each head, in place: transformers' layout. */
typedef struct ag_rope {
    uint32_t n_heads;
    uint32_t head_dim;
    uint32_t rotary; /* dimensions of a head that rotate; even */
    uint32_t begin;  /* the first of them */
    bool by_turns;   /* pairs are (2 i, 2 i + 1) */
} ag_rope_t;
/** @param angles (tokens, rotary). @param x (tokens, row_stride), heads at its first columns. */
void ag_kernel_rope(const ag_kernel_context_t *context, const ag_rope_t *rope, const float *angles,
                    ag_elements_t x, uint64_t row_stride);

/*
 * Columns of heads that go to other heads' columns: [x_begin, x_begin + n) of x's head h become
 * [y_begin, y_begin + n) of y's. Where one side has one head for all, it is copied to each of the
 * other's, or is their sum.
 */
typedef struct ag_head_columns {
    uint32_t n_heads;
    uint32_t x_dim, y_dim; /* columns of a head */
    uint32_t x_begin, y_begin, n;
    bool x_is_shared, y_is_shared;
    bool keeps;                /* y's other columns stay; else they become 0 */
    bool x_by_head, y_by_head; /* rows of a head lie together: (n_heads, n_rows, columns) */
} ag_head_columns_t;
/** y (n_rows, n_heads or 1, y_dim) from x (n_rows, n_heads or 1, x_dim). */
void ag_kernel_head_columns(const ag_kernel_context_t *context, const ag_head_columns_t *columns,
                            const float *x, uint64_t n_rows, float *y);

/* One layer's KV cache in blocks: (blocks, 2, n_kv_heads, ...), keys first: (head_dim,
 * block_tokens), then values: (block_tokens, head_dim). Where a value is part of its key, keys
 * alone: (blocks, n_kv_heads, block_tokens, head_dim). */
typedef struct ag_kv {
    ag_dtype_t dtype;    /* AG_F32 or AG_F16 */
    uint32_t n_kv_heads; /* held by this rank */
    uint32_t head_dim;
    uint32_t block_tokens;
    void *blocks;
    uint32_t value_dim; /* leading elements of a key that are its value; 0: values are apart */
} ag_kv_t;

/** Of a row's sum for one head. */
static inline uint32_t ag_kv_value_dim(const ag_kv_t *kv)
{
    return kv->value_dim > 0 ? kv->value_dim : kv->head_dim;
}

/** Bytes of n_blocks. */
uint64_t ag_kv_blocks_bytes(const ag_kv_t *kv, uint64_t n_blocks);

/** Store k and v rows (tokens, n_kv_heads * head_dim) at their positions' places; where a value is
 * part of its key, k is that part, and v the rest of the key. */
void ag_kernel_kv_append(const ag_kernel_context_t *context, const ag_kv_t *kv, const float *k,
                         const float *v);

/*
 * Causal attention of this rank's query heads over the KV blocks, with a running maximum and sum
 * (Milakov and Gimelshein 2018; Dao 2022): never a (tokens, tokens) matrix.
 */
typedef struct ag_attention {
    uint32_t n_heads;        /* query heads held; may be 0 */
    const uint32_t *kv_head; /* (n_heads) index of each one's KV head among those held; NULL: there
                                is but one */
    float scale;
    uint32_t window_tokens; /* positions that a row sees, the last of them its own; 0: all so far */
    float score_cap;        /* scores become cap * tanh(score / cap); 0: they stay */
    const float *sinks;     /* (n_heads) a score that takes weight and has no value; NULL: none */
} ag_attention_t;
/** y (tokens, n_heads * ag_kv_value_dim()) from q (tokens, n_heads * head_dim); the step's own rows
 * are already appended. Blocks that no row sees are not read. */
void ag_kernel_attention(const ag_kernel_context_t *context, const ag_attention_t *attention,
                         const ag_kv_t *kv, const float *q, float *y);
size_t ag_attention_scratch_bytes(const ag_attention_t *attention, const ag_kv_t *kv);

/*
 * The same in two steps for few rows, so that all threads have their share of a long context
 * however many heads there are: parts of the positions, a barrier, and their merging.
 */
enum { AG_ATTENTION_PARTS = 8 };

/** Floats of a row of parts. */
uint32_t ag_attention_parts_width(const ag_attention_t *attention, uint32_t value_dim);
/** @param parts (tokens, n_heads, AG_ATTENTION_PARTS, value size + 2): gathered, maximum, sum. */
void ag_kernel_attention_parts(const ag_kernel_context_t *context, const ag_attention_t *attention,
                               const ag_kv_t *kv, const float *q, float *parts);
void ag_kernel_attention_merge(const ag_kernel_context_t *context, const ag_attention_t *attention,
                               const ag_kv_t *kv, const float *parts, float *y);

typedef enum ag_act {
    AG_ACT_SILU,
    AG_ACT_GELU_TANH,
    AG_ACT_GELU,
    AG_ACT_RELU,
    AG_ACT_GELU_QUICK, /* x * sigmoid(1.702 x) */
    AG_N_ACTS,
} ag_act_t;

/* act(gate) * (up + up_offset), before which gate is at most `limit`, and up within it. */
typedef struct ag_glu {
    ag_act_t act;
    float limit; /* 0: there is none */
    float up_offset;
} ag_glu_t;

/**
 * y = act(gate) * up as glu says, elementwise over (n_rows, width); y may be gate or up.
 * @param grain  columns that one thread takes together: ag_linear_grain() of the layers before; 0:
 *               it takes whole rows.
 */
void ag_kernel_glu(const ag_kernel_context_t *context, const ag_glu_t *glu, ag_elements_t gate,
                   ag_elements_t up, uint64_t n_rows, uint64_t width, uint64_t grain,
                   ag_elements_t y);

/** y = x * sigmoid(gates[row]) over rows of x (n_rows, width); y may be x. */
void ag_kernel_gate_rows(const ag_kernel_context_t *context, const float *x, const float *gates,
                         uint64_t n_rows, uint64_t width, float *y);

/** y = a + b over (n_rows, width), shared out as above; y may be a or b. */
void ag_kernel_add(const ag_kernel_context_t *context, const float *a, const float *b,
                   uint64_t n_rows, uint64_t width, uint64_t grain, float *y);

/** y = cap * tanh(x / cap) over (n_rows, width), shared out as above; y may be x. */
void ag_kernel_softcap(const ag_kernel_context_t *context, float cap, const float *x,
                       uint64_t n_rows, uint64_t width, uint64_t grain, float *y);

/** y[i] = x[step->outputs[i]] over rows of width. */
void ag_kernel_select_rows(const ag_kernel_context_t *context, const float *x, uint64_t width,
                           float *y);

/** Copy the rows of the narrower of x (n_rows, width) and y (n_rows, y_width) from, or to, the
 * columns from column_begin on of the wider. */
void ag_kernel_copy_columns(const ag_kernel_context_t *context, const float *x, uint64_t n_rows,
                            uint64_t width, float *y, uint64_t y_width, uint64_t column_begin);

/* Feed-forward parts of several experts, of which each row uses some (Shazeer et al. 2017). */

/* What a score says of an expert: its part. */
typedef enum ag_score {
    AG_SCORE_SOFTMAX, /* of one over all experts */
    AG_SCORE_SIGMOID, /* each for itself */
} ag_score_t;

/*
 * Which experts a row uses, and by how much: those of the largest parts, or of the largest sums of
 * a part and what the model prefers. Experts may be in groups, of which only the best are looked
 * at: those with the best expert, or with the largest sum of their best two (DeepSeek-AI 2024).
 */
typedef struct ag_route {
    uint32_t n_experts, n_used;
    ag_score_t score;
    bool sums_to_1;                   /* parts are divided by the sum of those used */
    float scale;                      /* then they are multiplied by this */
    uint32_t n_groups, n_groups_used; /* of as many experts each, one after the other; 0: none */
    bool group_of_two;                /* a group counts as its best two */
} ag_route_t;

/* A row of routes: n_used weights, those of the experts chosen first before others, n_used experts
 * as int32, and by how little the choice was not another one. */
static inline uint32_t ag_route_width(uint32_t n_used)
{
    return 2 * n_used + 1;
}
static inline int32_t *ag_route_ids(uint32_t n_used, float *route)
{
    return (int32_t *)(void *)(route + n_used);
}
static inline float *ag_route_gap(uint32_t n_used, float *route)
{
    return route + 2 * n_used;
}

/**
 * routes (n_rows, ag_route_width()) from scores (n_rows, n_experts); of equal ones the first wins.
 * @param preference  (n_experts) added to parts for the choice alone; NULL: there is none.
 */
void ag_kernel_route(const ag_kernel_context_t *context, const ag_route_t *route,
                     const float *scores, const float *preference, uint64_t n_rows, float *routes);
size_t ag_route_scratch_bytes(const ag_route_t *route);

/* Where copies of rows go: an expert on some rank is a place, those of a rank lie together. */
typedef struct ag_places {
    uint32_t n_experts, n_used, n_places;
    const uint32_t *begin;  /* (n_experts + 1) in places */
    const uint32_t *places; /* of each expert at least one; of several a row takes the one that its
                               number says */
    /* Of which rows of a step copies are made: from part / n_parts of them on; 0 to 1 of 1: all */
    uint32_t part, part_end, n_parts;
} ag_places_t;

static inline void ag_places_rows(const ag_places_t *places, uint64_t n_rows, uint64_t *begin_p,
                                  uint64_t *end_p)
{
    *begin_p = n_rows * places->part / places->n_parts;
    *end_p = n_rows * places->part_end / places->n_parts;
}

size_t ag_places_scratch_bytes(const ag_places_t *places);

/** counts (n_places): rows that go to each. */
void ag_kernel_count_rows(const ag_kernel_context_t *context, const ag_places_t *places,
                          const float *routes, uint64_t n_rows, uint32_t *counts);

/** y (copies, width): the rows of x (n_rows, width), place after place, each place's in order. */
void ag_kernel_permute(const ag_kernel_context_t *context, const ag_places_t *places,
                       const float *routes, uint64_t n_rows, const float *x, uint64_t width,
                       float *y);

/** Rows of y (n_rows, width), this part's: sums of their copies in x times the routes' weights.
 * @param add  to what stands there. */
void ag_kernel_combine(const ag_kernel_context_t *context, const ag_places_t *places,
                       const float *routes, uint64_t n_rows, const float *x, uint64_t width,
                       bool add, float *y);

/* Rows that belong to groups, each with a weight of its own. */
typedef struct ag_groups {
    uint32_t n_groups, n_sources;
    const uint32_t *counts; /* (n_sources, n_groups) rows; NULL: each group has n_rows_each */
    uint64_t n_rows_each;
} ag_groups_t;

uint64_t ag_groups_rows(const ag_groups_t *groups, uint32_t group);
uint64_t ag_groups_all_rows(const ag_groups_t *groups);
size_t ag_groups_scratch_bytes(const ag_groups_t *groups);

/** y: rows of x (rows, width), which lie source after source, group after group; or back. */
void ag_kernel_regroup(const ag_kernel_context_t *context, const ag_groups_t *groups, bool back,
                       const float *x, uint64_t width, float *y);

/* Pointers to the groups' weights and biases, in whatever structs they stand. */
typedef struct ag_group_weights {
    const unsigned char *first;      /* the first group's pointer */
    size_t stride_bytes;             /* to the next one */
    const unsigned char *first_bias; /* as far from each other; NULL: there are none */
} ag_group_weights_t;

/**
 * y (rows, n) from x (rows, k), group after group: each group's rows by a weight of its own. A
 * row's bits do not depend on how many others its group has.
 * @param linear  of every group, but for weight and bias.
 */
void ag_kernel_group_linear(const ag_kernel_context_t *context, const ag_groups_t *groups,
                            const ag_linear_t *linear, const ag_group_weights_t *weights,
                            const float *x, bool exact, float *y);

/** ag_kernel_prepare() for that. */
void ag_kernel_prepare_groups(const ag_kernel_context_t *context, const ag_groups_t *groups,
                              const ag_linear_t *linear, const float *x, void *dst);
