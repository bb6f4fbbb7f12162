/* A model of two layers as one graph, with random weights, and what it computes for some steps. */
#pragma once

#include "runtime/graph/graph_priv.h"

enum { EMBED, NORM, NORM_BIAS, Q, Q_BIAS, K, V, O, GATE, UP, DOWN, ROUTER, SINKS, EXPERTS };
enum { N_EXPERTS = 3, N_PARAMS = EXPERTS + 3 * N_EXPERTS };

/* What a model's weights are. */
typedef struct whole_kind {
    const char *name;
    uint32_t hidden, head, ffn;
    ag_dtype_t most, others; /* of matrices: K and UP are of the other type */
    ag_dtype_t of_o;         /* whose rows are as long as all heads */
    ag_packing_t packing;
} whole_kind_t;

typedef struct whole {
    const whole_kind_t *kind;
    ag_graph_param_t params[N_PARAMS];
    float *inverse_freq;        /* (head / 2) */
    void *cache;                /* what a layer's holds at first */
    struct ag_gemm_cache *gemm; /* for MOST_THREADS; NULL: none */
} whole_t;

/* Past and new rows of up to 3 sequences, in a class that holds `bound` rows. */
typedef struct whole_step {
    const char *name;
    uint64_t bound;
    uint32_t n_sequences, n_past[3], n_new[3];
} whole_step_t;

typedef struct whole_run {
    const whole_step_t *step;
    bool exact;
    const ag_isa_t *isa;    /* NULL: plain C */
    unsigned n_threads;     /* up to MOST_THREADS */
    const uint32_t *speeds; /* (n_threads) NULL: alike */
    bool buffers;           /* each value has memory of its own, not a place in scratch */
    ag_region_fn_t region;  /* that runs ag_graph_region() with the same arguments; NULL: itself */
    size_t without_barrier; /* the node that has none before it; 0: each has what it has */
} whole_run_t;

enum { MOST_THREADS = 5, N_STEPS = 5 };

extern const whole_step_t whole_steps[N_STEPS];
extern const uint32_t whole_speeds[MOST_THREADS]; /* uneven ones */

void whole_init(whole_t *whole, const whole_kind_t *kind, bool with_gemm);
void whole_fini(whole_t *whole);

/** The graph of a run, compiled for its step's class. */
void whole_compile(const whole_t *whole, const whole_run_t *run, ag_graph_t *graph);

/** The hidden state and the logits that a run leaves; free() them. @param n_p out: floats. */
float *whole_results(const whole_t *whole, const whole_run_t *run, size_t *n_p);

/** Logits of a step that are ours: of all others results are 0. */
bool whole_is_ours(const whole_t *whole, const whole_step_t *step, size_t at);
