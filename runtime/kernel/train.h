/*
 * CPU kernels of training: gradients, losses and the optimizer. They follow kernel.h's rules: every
 * thread of a region calls with the same arguments and does its share, none waits, and the bits do
 * not depend on the number of threads. Weights are plain: float32, AG_PACKING_ROWS. d<name> is the
 * gradient of the loss by <name>, of its shape; where a kernel has an `add`, it adds to what the
 * gradient holds if true and writes it if false. Gradients of weights are always added to.
 *
 * Where elements may be rounded, arithmetic is float32 still, but for products.
 *
 * `exact` products are float32; others round both factors to bfloat16 and sum in float32, where the
 * machine is fast at that. Set context->isa also for exact products: nothing here takes shortcuts
 * by it, and without it the loops are plain C.
 */
#pragma once

#include "runtime/kernel/kernel.h"

/* Products of plain weights: forward, and its two gradients. A linear of n or k = 0 holds nothing:
 * its outputs are bias or zeros. */

size_t ag_train_linear_scratch_bytes(void);

/** y (n_rows, n) = x (n_rows, k) * weight^T + bias. */
void ag_kernel_train_linear(const ag_kernel_context_t *context, const ag_linear_t *linear,
                            ag_elements_t x, uint64_t n_rows, bool exact, ag_elements_t y);

/** dx (n_rows, k) from dy (n_rows, n) and the weight. */
void ag_kernel_linear_input_grad(const ag_kernel_context_t *context, const ag_linear_t *linear,
                                 ag_elements_t dy, uint64_t n_rows, bool exact, bool add,
                                 ag_elements_t dx);

/**
 * dweight (n, k) += dy^T * x, dbias (n) += column sums of dy.
 * @param linear  n and k; its weight is not read.
 * @param dbias   NULL: there is none.
 */
void ag_kernel_linear_weight_grad(const ag_kernel_context_t *context, const ag_linear_t *linear,
                                  ag_elements_t dy, ag_elements_t x, uint64_t n_rows, bool exact,
                                  float *dweight, float *dbias);

/* The same for each group of rows by a weight of its own, as ag_kernel_group_linear(): x (rows, k)
 * and y (rows, n) lie group after group. */

void ag_kernel_train_group_linear(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                  const ag_linear_t *linear, const ag_group_weights_t *weights,
                                  const float *x, bool exact, float *y);
void ag_kernel_group_input_grad(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                const ag_linear_t *linear, const ag_group_weights_t *weights,
                                const float *dy, bool exact, bool add, float *dx);
/** @param dweights  pointers to the groups' (n, k) gradients, and to their biases' (n), if any. */
void ag_kernel_group_weight_grad(const ag_kernel_context_t *context, const ag_groups_t *groups,
                                 const ag_linear_t *linear, const ag_group_weights_t *dweights,
                                 const float *dy, const float *x, bool exact);

/* Norms. The second kernel reads what the first wrote: a barrier stands between them. Scratch of
 * both: ag_norm_scratch_bytes(). */

enum { AG_NORM_STATISTICS = 2 }; /* of a row: mean (0 for RMS), 1 / deviation */

/**
 * @param dy, x       (n_rows, n_groups, width); dx may be dy where its weight's gradient is not
 *                    wanted.
 * @param statistics  out: (n_rows, n_groups, AG_NORM_STATISTICS)
 */
void ag_kernel_norm_grad(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *dy,
                         ag_elements_t x, uint64_t n_rows, bool add, float *dx, float *statistics);

/** dweight (width) += , dbias (width) +=; dbias NULL: there is none. */
void ag_kernel_norm_weight_grad(const ag_kernel_context_t *context, const ag_norm_t *norm,
                                const float *dy, ag_elements_t x, const float *statistics,
                                uint64_t n_rows, float *dweight, float *dbias);

/** y (n) = x (n), rounded. */
void ag_kernel_round(const ag_kernel_context_t *context, const float *x, uint64_t n,
                     ag_elements_t y);

/** The gradient through ag_kernel_rope(): in place, dx of what was rotated from dy. */
void ag_kernel_rope_grad(const ag_kernel_context_t *context, const ag_rope_t *rope,
                         const float *angles, ag_elements_t dy, uint64_t row_stride);

/** dgate and dup from dy, all (n_rows, width), shared out as ag_kernel_glu(); each may be any of
 * the inputs' places. */
void ag_kernel_glu_grad(const ag_kernel_context_t *context, const ag_glu_t *glu, ag_elements_t dy,
                        ag_elements_t gate, ag_elements_t up, uint64_t n_rows, uint64_t width,
                        uint64_t grain, ag_elements_t dgate, ag_elements_t dup);

/** Through ag_kernel_gate_rows(): dx and dgates (n_rows) from dy; dx may be dy or x. */
void ag_kernel_gate_rows_grad(const ag_kernel_context_t *context, const float *dy, const float *x,
                              const float *gates, uint64_t n_rows, uint64_t width, float *dx,
                              float *dgates);

/** y = act(x), and dx = dy * act'(x); y and dx may be any of the inputs' places. */
void ag_kernel_act(const ag_kernel_context_t *context, ag_act_t act, const float *x,
                   uint64_t n_rows, uint64_t width, uint64_t grain, float *y);
void ag_kernel_act_grad(const ag_kernel_context_t *context, ag_act_t act, const float *dy,
                        const float *x, uint64_t n_rows, uint64_t width, uint64_t grain, float *dx);

/**
 * dtable (vocab_end - vocab_begin, width) += scale * rows of dy (tokens, width), in the order of
 * the tokens.
 * @param embed  its table is not read.
 */
void ag_kernel_embed_grad(const ag_kernel_context_t *context, const ag_embed_t *embed,
                          const float *dy, float *dtable);

/** dx[step->outputs[i]] = dy[i], other rows of dx (tokens, width) zero; no row is asked for twice.
 */
void ag_kernel_select_rows_grad(const ag_kernel_context_t *context, const float *dy, uint64_t width,
                                float *dx);

/*
 * Attention of a step's rows among themselves: causal within each of its sequences, without a cache
 * (Dao et al. 2022). Positions do not matter, rows' order does.
 */
typedef struct ag_self_attention {
    uint32_t n_heads;    /* query heads held; may be 0 */
    uint32_t n_kv_heads; /* KV heads held */
    uint32_t head_dim;
    const uint32_t *kv_head; /* (n_heads) index of each one's KV head among those held; ascending */
    float scale;
    uint32_t window_tokens; /* as of ag_attention_t, in rows of a sequence */
    float score_cap;
    const float *sinks; /* (n_heads) or NULL */
    bool exact;
} ag_self_attention_t;

size_t ag_self_attention_scratch_bytes(const ag_self_attention_t *attention);

/**
 * @param q    (tokens, n_heads * head_dim)
 * @param k,v  (tokens, n_kv_heads * head_dim)
 * @param y    out: as q; not q
 * @param lse  out: (tokens, n_heads) logarithm of the sum of exponentials of a row's scores, the
 *             sink's among them
 */
void ag_kernel_self_attention(const ag_kernel_context_t *context,
                              const ag_self_attention_t *attention, ag_elements_t q,
                              ag_elements_t k, ag_elements_t v, ag_elements_t y, float *lse);

/* What the forward pass read and left. */
typedef struct ag_self_attention_saved {
    ag_elements_t q, k, v, y;
    const float *lse;
} ag_self_attention_saved_t;

/**
 * dq, dk, dv from dy, all written: of q's and k's shapes, none the place of an input. dk and dv are
 * the sums over this rank's query heads; 0 where it has none.
 */
void ag_kernel_self_attention_grad(const ag_kernel_context_t *context,
                                   const ag_self_attention_t *attention,
                                   const ag_self_attention_saved_t *saved, ag_elements_t dy,
                                   float *dq, float *dk, float *dv);

/** dsinks (n_heads) += the gradient of what sinks take of every row's weights. */
void ag_kernel_sinks_grad(const ag_kernel_context_t *context, const ag_self_attention_t *attention,
                          const ag_self_attention_saved_t *saved, ag_elements_t dy, float *dsinks);

/*
 * Cross entropy over a vocabulary that ranks share. Each writes what its columns say; the sum over
 * the ranks (one of two numbers is 0: exact) makes all of it known to all; the second kernel makes
 * losses and gradients of that. A barrier, or the all-reduce, stands between them.
 */
typedef struct ag_loss {
    uint64_t vocab_begin, vocab_end; /* columns that this part has; may be none */
    uint32_t part, n_parts;
    float cap; /* logits become cap * tanh(logit / cap), and gradients are by those before; 0: they
                  stay */
} ag_loss_t;

/* Of each part: its largest logit, sum of exp(logit - largest), the target's logit or 0. */
enum { AG_LOSS_STATISTICS = 3 };

/**
 * @param logits      (n_rows, vocab_end - vocab_begin)
 * @param targets     (n_rows) ids; -1: the row has none
 * @param statistics  out: (n_rows, n_parts, AG_LOSS_STATISTICS), other parts' zero
 */
void ag_kernel_loss_statistics(const ag_kernel_context_t *context, const ag_loss_t *loss,
                               ag_elements_t logits, const int32_t *targets, uint64_t n_rows,
                               float *statistics);

/**
 * @param statistics  (n_rows, n_parts, AG_LOSS_STATISTICS) of all parts
 * @param scale       what the gradient is multiplied by: 1 / target tokens of the global batch
 * @param logits      in place: (softmax - target's 1) * scale, 0 without a target; NULL data: not
 *                    wanted
 * @param losses      out: (n_rows) -log softmax of the target, unscaled; 0 without one
 */
void ag_kernel_loss(const ag_kernel_context_t *context, const ag_loss_t *loss,
                    const float *statistics, const int32_t *targets, uint64_t n_rows, float scale,
                    ag_elements_t logits, float *losses);

/* Experts. Routes stay what ag_kernel_route() made. */

/** dscores (n_rows, n_experts) from dweights (n_rows, n_used): of the weights in routes. */
void ag_kernel_route_grad(const ag_kernel_context_t *context, const ag_route_t *route,
                          const float *scores, const float *routes, const float *dweights,
                          uint64_t n_rows, bool add, float *dscores);

/**
 * Through ag_kernel_combine(): of the copies that this part has.
 * @param x         (copies, width) as combine read them
 * @param dy        (n_rows, width)
 * @param dx        out: (copies, width), may be x
 * @param dweights  out: (n_rows, n_used); 0 for rows of other parts
 */
void ag_kernel_combine_grad(const ag_kernel_context_t *context, const ag_places_t *places,
                            const float *routes, uint64_t n_rows, const float *x, const float *dy,
                            uint64_t width, float *dx, float *dweights);

/** Through ag_kernel_permute(): dx (n_rows, width) from dy (copies, width): sums of a row's copies
 * in the order of its weights; nothing for rows of other parts. */
void ag_kernel_permute_grad(const ag_kernel_context_t *context, const ag_places_t *places,
                            const float *routes, uint64_t n_rows, const float *dy, uint64_t width,
                            bool add, float *dx);

/*
 * Losses that keep a router usable, over all rows of a layer and global batch:
 *
 *     balance  n_experts * sum over experts of (choices / rows) * (mean probability)
 *              (Fedus et al. 2021, and transformers' load_balancing_loss_func over one layer);
 *              of a sigmoid's parts, each is divided by their sum (DeepSeek-AI 2024, equation 20)
 *     z        mean of log(sum of exp(score))^2 (Zoph et al. 2022)
 *
 * Statistics are sums over rows, so that ranks and micro-batches can add theirs up.
 */
enum { AG_ROUTER_CHUNK_ROWS = 64 };

/** Floats of a row of statistics: choices of each expert, sums of probabilities, sum of z. */
static inline uint32_t ag_router_statistics(uint32_t n_experts)
{
    return 2 * n_experts + 1;
}

/** parts (chunks of AG_ROUTER_CHUNK_ROWS rows, statistics). */
void ag_kernel_router_statistics(const ag_kernel_context_t *context, const ag_route_t *route,
                                 const float *scores, const float *routes, uint64_t n_rows,
                                 float *parts);

/** y (width) += sums over the rows of x (n_rows, width), in order: of parts, behind a barrier. */
void ag_kernel_add_rows(const ag_kernel_context_t *context, const float *x, uint64_t n_rows,
                        uint64_t width, float *y);

typedef struct ag_router_loss {
    float balance, z;        /* factors of the two losses */
    uint64_t n_rows;         /* that statistics are of */
    const float *statistics; /* (ag_router_statistics()) */
} ag_router_loss_t;

/** The two losses, not multiplied by their factors. */
void ag_router_losses(const ag_route_t *route, const ag_router_loss_t *loss, double *balance_p,
                      double *z_p);

/** dscores (n_rows, n_experts) += the gradient of both losses times their factors and `scale`. */
void ag_kernel_router_grad(const ag_kernel_context_t *context, const ag_route_t *route,
                           const ag_router_loss_t *loss, const float *scores, uint64_t n_rows,
                           float scale, float *dscores);

/* The optimizer: Loshchilov and Hutter 2019, in the order of operations of torch.optim.AdamW. */
typedef struct ag_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2;        /* 1 - beta^t of step t = 1.. */
    float gradient_factor;                 /* clipping, and what gradients were scaled by */
    const ag_before_write_t *before_write; /* NULL: nobody wants to know */
} ag_adamw_t;

/** w, m, v of n floats from the gradient g; of each span of these before_write is told just before
 * it changes, by the thread that changes it. */
void ag_kernel_adamw(const ag_kernel_context_t *context, const ag_adamw_t *adamw, uint64_t n,
                     const float *g, float *w, float *m, float *v);

/* Sums of squares are cut at fixed places, a thread sums chunks. */
enum { AG_SUM_CHUNK = 1 << 16 };

static inline uint64_t ag_sum_chunks(uint64_t n)
{
    return (n + AG_SUM_CHUNK - 1) / AG_SUM_CHUNK;
}

/** sums (ag_sum_chunks(n)): of the squares of x (n). */
void ag_kernel_sum_squares(const ag_kernel_context_t *context, const float *x, uint64_t n,
                           double *sums);

/** What they are together, added in order; by whoever wants to know, behind a barrier. */
double ag_add_sums(const double *sums, uint64_t n);
