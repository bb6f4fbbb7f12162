/* The table that runtime/kernel/isa is compiled to, once for each instruction set. */
#pragma once

#include "runtime/kernel/kernel.h"
#include "runtime/kernel/r16_priv.h"
#include "runtime/kernel/train.h"

/* Some columns of y = x * w^T + bias on one thread; w is packed as r16. */
typedef struct ag_r16_run {
    const unsigned char *weight; /* all groups */
    uint64_t k, n;
    uint64_t group_begin, group_end; /* of 16 columns of y, to compute */
    const void *x;                   /* n_rows, prepared */
    uint64_t n_rows;
    const float *bias; /* (n) or NULL */
    float *y;          /* (n_rows, n) */
} ag_r16_run_t;

/* LINEAR over one type of weight. */
typedef struct ag_r16_kernel {
    /** Bring rows of x (n_rows, k) into the form that run reads, ag_r16_x_bytes() a row: tile after
     * tile of 8 rows, the last ones of fewer. */
    void (*prepare)(const float *x, uint64_t n_rows, uint64_t k, void *dst);
    void (*run)(const ag_r16_run_t *run);
} ag_r16_kernel_t;

/* Some query rows, which share a KV head, against a span of the cache: a few blocks. */
enum { AG_ATTEND_ROWS = 8, AG_ATTEND_POSITIONS = 32, AG_ATTEND_BLOCKS = 4 };

typedef struct ag_attend_block {
    const void *keys;   /* (head_dim, AG_ATTEND_POSITIONS) float16 */
    const void *values; /* (AG_ATTEND_POSITIONS, head_dim) float16 */
} ag_attend_block_t;    /* where values are part of keys, those are the rows of values */

typedef struct ag_attend {
    ag_attend_block_t blocks[AG_ATTEND_BLOCKS]; /* those that hold the positions seen */
    ag_attend_block_t ahead[AG_ATTEND_BLOCKS];  /* to be called near meanwhile; NULL: none */
    uint32_t head_dim;
    uint32_t
        value_dim; /* leading elements of a key that are its value; head_dim: values are apart */
    float scale, score_cap; /* as of ag_attention_t */
    uint32_t n_rows;
    const float *q[AG_ATTEND_ROWS]; /* (head_dim) */
    /* of the span, each row sees positions [n_before, n_positions), of which there are some */
    uint32_t n_before[AG_ATTEND_ROWS], n_positions[AG_ATTEND_ROWS];
    float *gathered[AG_ATTEND_ROWS]; /* (value_dim) sum of weights times values */
    float *maximum[AG_ATTEND_ROWS], *sum[AG_ATTEND_ROWS];
} ag_attend_t;

typedef struct ag_exps {
    float scale, shift, factor;
} ag_exps_t;

/* p = exp(s - lse), ds = p * (dp - mean) * slope of s: attention, backwards. s is score * scale,
 * capped as below where the cap is above 0. */
typedef struct ag_slopes {
    float scale, cap, lse, mean;
} ag_slopes_t;

/* cap * tanh(x * scale / cap) */
typedef struct ag_caps {
    float scale, cap;
} ag_caps_t;

struct ag_isa {
    const char *name;
    bool (*supported)(void);
    const ag_r16_kernel_t *r16[AG_N_DTYPES]; /* NULL where a type has no such packing */
    void (*attend)(const ag_attend_t *args);
    /** y = act(gate) * up over n elements; NULL: plain C does it. y may be gate or up. */
    void (*glu[AG_N_ACTS])(const float *gate, const float *up, uint64_t n, float *y);
    /** dgate and dup from dy: each may be an input's place. */
    void (*glu_grad[AG_N_ACTS])(const float *dy, const float *gate, const float *up, uint64_t n,
                                float *dgate, float *dup);
    float (*sum_squares)(const float *x, uint64_t n);
    float (*largest)(const float *x, uint64_t n); /* -infinity of none; a NaN may be lost */
    /** y = exp(x * scale - shift) * factor, and their sum; y may be x, or NULL: the sum alone. */
    float (*exps)(const ag_exps_t *args, const float *x, uint64_t n, float *y);
    /** The same rounded to bfloat16; the sum is of what was not. */
    float (*exps_bf16)(const ag_exps_t *args, const float *x, uint64_t n, uint16_t *y);
    /** p may be scores, ds may be dp. */
    void (*slopes)(const ag_slopes_t *args, const float *scores, const float *dp, uint64_t n,
                   float *p, float *ds);
    void (*slopes_bf16)(const ag_slopes_t *args, const float *scores, const float *dp, uint64_t n,
                        uint16_t *p, uint16_t *ds);
    /** y may be x. */
    void (*caps)(const ag_caps_t *args, const float *x, uint64_t n, float *y);
    void (*adamw)(const ag_adamw_t *adamw, uint64_t n, const float *g, float *w, float *m,
                  float *v);
    void (*to_bf16)(const float *x, uint64_t n, uint16_t *y);
    void (*from_bf16)(const uint16_t *x, uint64_t n, float *y);
};

extern const ag_isa_t ag_isa_base;
#if defined(__x86_64__)
extern const ag_isa_t ag_isa_avx2, ag_isa_avx512;
#endif
