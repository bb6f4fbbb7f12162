/*
 * A model is data: what a layer is, a few kinds of layers, an index per layer. Fields describe
 * arithmetic; a family is named only for the record.
 */
#pragma once

#include "runtime/file/model_files.h"
#include "runtime/graph/graph.h"

typedef enum ag_rope_kind {
    AG_ROPE_DEFAULT,
    AG_ROPE_LINEAR, /* positions divided by a factor */
    AG_ROPE_LLAMA3, /* low frequencies divided, a smooth step between */
    AG_ROPE_YARN,   /* Peng et al. 2023 */
    AG_ROPE_LONG,   /* divisors of each frequency, others in a long context: Ding et al. 2024 */
} ag_rope_kind_t;

typedef struct ag_rope_spec {
    ag_rope_kind_t kind;
    double base;
    uint32_t rotary; /* leading dimensions of a head that rotate */
    double factor;
    double low_freq_factor, high_freq_factor; /* LLAMA3 */
    double beta_fast, beta_slow;              /* YARN */
    double attention_factor;       /* YARN, LONG: multiplies cos and sin; 0: what follows from
                                      the others, see ag_rope_magnitude() */
    double mscale, mscale_all_dim; /* YARN: what that follows from, in some families */
    bool truncates;                /* YARN: its ramp is from a whole dimension to one */
    uint32_t original_context_tokens;
} ag_rope_spec_t;

/* What of queries and keys is normed, before they rotate. */
typedef enum ag_qk_norm {
    AG_QK_NORM_NONE,
    AG_QK_NORM_HEADS, /* each head for itself, all by one weight of a head's size */
    AG_QK_NORM_WHOLE, /* all heads together */
} ag_qk_norm_t;

typedef struct ag_layer_spec {
    /* norms of what attention reads, and the feed-forward part; of what they make, before it is
     * added to the residual stream. At least one is there */
    bool norms_before, norms_after;
    uint32_t n_heads, n_kv_heads, head_dim;
    ag_qk_norm_t qk_norm;
    float attention_scale; /* on q . k */
    /* Keys and values of all heads made from one latent vector of a token (DeepSeek-AI 2024): each
     * key is a head's part, and behind it one that rotates and that all heads have. */
    uint32_t kv_rank;       /* of the latent vector; 0: there is none */
    uint32_t q_rank;        /* of one for queries; 0: they come from the residual stream */
    float latent_norm_eps;  /* of the norms of latent vectors; 0: as of others */
    uint32_t value_dim;     /* of a head's values, where it is not head_dim; else 0 */
    bool rope_by_turns;     /* pairs that rotate lie side by side */
    uint32_t window_tokens; /* positions that a row attends to, the last its own; 0: all so far */
    float score_cap;        /* scores become cap * tanh(score / cap); 0: they stay */
    bool sinks;             /* a query head has a score that takes weight and has no value */
    ag_rope_spec_t rope;
    float *inverse_freq; /* (rope.rotary / 2), scaling included; the spec's own. LONG: (2, ...), the
                            second of a context longer than the original: ag_layer_frequencies() */
    float *rope_factors; /* LONG: the divisors they were made with; else NULL; the spec's own */
    float rope_magnitude; /* of cos and sin */
    bool q_bias, k_bias, v_bias, o_bias;
    uint32_t ffn_width; /* of an expert, where there are several */
    bool ffn_is_gated;  /* act(gate) * up; else act(up) */
    ag_act_t ffn_act;
    float ffn_limit, ffn_up_offset; /* of ag_glu_t */
    bool ffn_bias;                  /* of gate, up and down, also of each expert */
    ag_route_t route;      /* n_experts 0: one feed-forward part, which every token goes through */
    bool router_bias;      /* added to scores */
    bool route_preference; /* added to parts for the choice alone; gradients do not change it */
    uint32_t shared_width; /* of an expert beside the others that every token uses; 0: none */
    bool shared_is_gated;  /* by the sigmoid of a product with the token */
} ag_layer_spec_t;

enum { AG_MAX_LAYER_KINDS = AG_MAX_SIGHTS, AG_MAX_LAYERS = 4096 };

typedef struct ag_spec {
    char family[32];
    uint32_t n_layers, hidden, vocab, context_tokens;
    ag_norm_kind_t norm_kind;
    float norm_eps;
    bool norm_bias; /* of all norms of the residual stream */
    float embed_scale;
    uint32_t n_positions; /* that have rows of a table, added to the embedding; 0: there is none */
    float logit_cap;      /* as scores'; 0: logits stay */
    bool tied;            /* the head is the embedding table */
    uint32_t n_layer_kinds;
    ag_layer_spec_t layer_kinds[AG_MAX_LAYER_KINDS];
    uint8_t *kind_of_layer; /* (n_layers) */
    char hash[17];          /* of everything above */
} ag_spec_t;

/** Of a head. */
static inline uint32_t ag_layer_value_dim(const ag_layer_spec_t *layer)
{
    return layer->value_dim > 0 ? layer->value_dim : layer->head_dim;
}

/** (rope.rotary / 2) of the layer's rope, where sequences may have so many tokens. */
static inline const float *ag_layer_frequencies(const ag_layer_spec_t *layer,
                                                uint32_t context_tokens)
{
    bool is_long =
        layer->rope.kind == AG_ROPE_LONG && context_tokens > layer->rope.original_context_tokens;

    return layer->inverse_freq + (is_long ? layer->rope.rotary / 2 : 0);
}

static inline const ag_layer_spec_t *ag_spec_layer(const ag_spec_t *spec, uint32_t layer)
{
    return &spec->layer_kinds[spec->kind_of_layer[layer]];
}

/* The most experts that a layer has, and that a token uses of one; 0: there are none. */
typedef struct ag_expert_counts {
    uint32_t n, n_used;
} ag_expert_counts_t;

ag_expert_counts_t ag_spec_experts(const ag_spec_t *spec);

/* (query, key) pairs, by kind of layer. */
typedef struct ag_attended {
    uint64_t pairs[AG_MAX_LAYER_KINDS];
} ag_attended_t;

/** Add those of n rows of a sequence, from a position on. */
void ag_spec_attend(const ag_spec_t *spec, uint64_t position, uint64_t n, ag_attended_t *attended);

struct ag_family;

/**
 * Recognise the family of a model and read its spec.
 * @param family_p  out: for the names of its tensors.
 * @return AG_OK; AG_ERR_UNSUPPORTED (unknown architecture: lists the known; an arithmetic we lack),
 *         AG_ERR_FORMAT (a missing or senseless setting, by key).
 */
ag_status_t ag_spec_load(const ag_model_files_t *files, ag_spec_t **spec_p,
                         const struct ag_family **family_p);
void ag_spec_destroy(ag_spec_t *spec); /* NULL is allowed */

/** What a yarn rope multiplies by where it stretches by a factor: 1 + 0.1 scale ln(factor). */
double ag_yarn_magnitude(double factor, double scale);

/** What a rope multiplies cosines and sines by. */
double ag_rope_magnitude(const ag_rope_spec_t *rope);

/**
 * inv_freq of a rope, as transformers computes it in float32.
 * @param factors  (rotary / 2) divisors from the model's file, or NULL.
 * @param inverse_freq  out: (rotary / 2).
 */
void ag_rope_frequencies(const ag_rope_spec_t *rope, const float *factors, float *inverse_freq);

struct ag_family;

/**
 * A layer's frequencies, with the divisors that the files list of them.
 * @param layer  its rope is complete, the rest of what is of a rope is filled in.
 * @return AG_OK; AG_ERR_FORMAT: so many dimensions cannot rotate, divisors that make no sense.
 */
ag_status_t ag_rope_load(const ag_model_files_t *files, const struct ag_family *family,
                         ag_layer_spec_t *layer);
