/* A family: which keys hold its settings, how its tensors are called, what its config does not say.
 */
#pragma once

#include "runtime/model/spec.h"

/* What a weight does; the name tables give each its names. */
typedef enum ag_role {
    AG_ROLE_EMBED,
    AG_ROLE_POSITIONS, /* (positions, hidden), added to the embedding */
    AG_ROLE_HEAD,
    AG_ROLE_FINAL_NORM,
    AG_ROLE_FINAL_NORM_BIAS,
    AG_ROLE_ROPE_FACTORS,      /* (rotary / 2) divisors of a rope's frequencies */
    AG_ROLE_ROPE_FACTORS_LONG, /* those of long contexts */
    AG_ROLE_ATTN_NORM,
    AG_ROLE_ATTN_NORM_BIAS,
    AG_ROLE_ATTN_POST_NORM, /* of what attention makes */
    AG_ROLE_Q_NORM,
    AG_ROLE_K_NORM,
    AG_ROLE_Q,
    AG_ROLE_Q_A, /* of a latent vector, of which Q_B makes queries */
    AG_ROLE_Q_B,
    AG_ROLE_Q_A_NORM,
    AG_ROLE_KV_A, /* of a latent vector, and below it of what of keys rotates */
    AG_ROLE_KV_A_NORM,
    AG_ROLE_K_B, /* of that vector, the keys of each head but for what rotates */
    AG_ROLE_V_B, /* and its values */
    AG_ROLE_K,
    AG_ROLE_V,
    AG_ROLE_O,
    AG_ROLE_Q_BIAS,
    AG_ROLE_K_BIAS,
    AG_ROLE_V_BIAS,
    AG_ROLE_O_BIAS,
    AG_ROLE_SINKS, /* (query heads) */
    AG_ROLE_FFN_NORM,
    AG_ROLE_FFN_NORM_BIAS,
    AG_ROLE_FFN_POST_NORM,
    AG_ROLE_GATE,
    AG_ROLE_UP,
    AG_ROLE_DOWN,
    AG_ROLE_GATE_BIAS,
    AG_ROLE_UP_BIAS,
    AG_ROLE_DOWN_BIAS,
    AG_ROLE_ROUTER,
    AG_ROLE_ROUTER_BIAS,
    AG_ROLE_ROUTE_PREFERENCE,
    AG_ROLE_EXPERT_GATE,
    AG_ROLE_EXPERT_UP,
    AG_ROLE_EXPERT_DOWN,
    AG_ROLE_EXPERT_GATE_BIAS,
    AG_ROLE_EXPERT_UP_BIAS,
    AG_ROLE_EXPERT_DOWN_BIAS,
    AG_ROLE_SHARED_GATE,
    AG_ROLE_SHARED_UP,
    AG_ROLE_SHARED_DOWN,
    AG_ROLE_SHARED_SCALE, /* of one row */
    AG_ROLE_COMPUTED,     /* stored in some files, computed here: not read */
    AG_N_ROLES,
} ag_role_t;

/* What loading does to a tensor, and in files of which kind. */
typedef enum ag_transform {
    AG_TRANSFORM_NONE,
    AG_TRANSFORM_UNPERMUTE_ROPE,   /* GGUF: rows of each head: (pair, half) -> (half, pair) */
    AG_TRANSFORM_ADD_1,            /* Hugging Face: to each element of a vector */
    AG_TRANSFORM_TRANSPOSE,        /* Hugging Face: (cols, rows) */
    AG_TRANSFORM_TRANSPOSE_FLOATS, /* the same, but for 4-bit floats, which stand as they are */
    AG_TRANSFORM_TURN_HEADS,       /* GGUF: (heads, cols, rows of a head) */
} ag_transform_t;

/* Which rows of a tensor are a role's, where it holds several roles' or experts'; elements, where
 * these are vectors. */
typedef enum ag_stack {
    AG_STACK_NONE,        /* all */
    AG_STACK_EXPERTS,     /* (experts, rows, cols): those of one expert */
    AG_STACK_FIRST_HALF,  /* (2 * rows, cols), of experts (experts, 2 * rows, cols): the first half
                           */
    AG_STACK_SECOND_HALF, /* the second */
    AG_STACK_QKV,         /* those of q, then k's, then v's */
    AG_STACK_HEADS,       /* (heads, rows of a head, cols): all */
    AG_STACK_HEAD_KEYS, /* (heads * (rows of keys + rows of values), cols): of each head the keys */
    AG_STACK_HEAD_VALUES, /* the values */
    AG_STACK_EVEN, /* (experts, 2 * rows, cols): the first of each two rows of one expert's */
    AG_STACK_ODD,  /* the second */
} ag_stack_t;

/* A role may have several rows: the first counts whose tensor the files have, and what is written
 * has the first that such files know. */
typedef struct ag_name_row {
    ag_role_t role;
    const char *hf; /* the first %u is the layer, the second the expert; NULL: not in such files */
    const char *gguf;
    ag_transform_t transform; /* in files of its kind; in others there is none */
    ag_stack_t stack;
} ag_name_row_t;

/* Kinds of a setting; the destination is a field of ag_settings_t. */
typedef enum ag_setting_kind { AG_SETTING_U32, AG_SETTING_REAL, AG_SETTING_BOOL } ag_setting_kind_t;

/* The settings of a config as they stand there; 0 where absent. */
typedef struct ag_settings {
    uint32_t n_layers, hidden, vocab, context_tokens;
    uint32_t n_heads, n_kv_heads, head_dim, value_dim, ffn_width, rotary;
    uint32_t n_experts, n_experts_used, window_tokens;
    uint32_t first_window_layer;
    uint32_t window_period; /* of so many layers, the last has no window */
    uint32_t query_scalar;  /* scores are divided by its square root */
    uint32_t expert_width, shared_width, n_expert_groups, n_expert_groups_used;
    uint32_t n_shared_experts, n_dense, expert_gating, kv_rank, q_rank, nope_dim;
    uint32_t expanded_head_dim, expanded_value_dim; /* in GGUF files whose heads are of latents */
    uint32_t sparse_step;                           /* of so many layers, the last has experts */
    double glu_limit;      /* beyond which what a gate and its factor are is cut off; 0: nowhere */
    double log_multiplier; /* of yarn in GGUF files */
    double rotary_factor;  /* of a head's dimensions, those that rotate; 0: 1 */
    double norm_eps, score_cap, logit_cap;
    ag_rope_spec_t rope;
    double window_rope_base; /* of layers with a window, where theirs is another */
    double expert_scale;     /* 0: 1 */
    bool attention_bias, mlp_bias, tied, expert_weights_sum_1, has_window, rope_by_turns;
} ag_settings_t;

typedef struct ag_key_row {
    size_t offset; /* of the field in ag_settings_t */
    ag_setting_kind_t kind;
    bool required;
    const char *hf;   /* path in config.json; alternatives joined by '|' */
    const char *gguf; /* key after the architecture's name; NULL: a GGUF does not say */
} ag_key_row_t;

/*
 * What is so where a file does not say; null says that there is none. Without a row it is 0, and
 * the base of a rope 10000.
 */
typedef struct ag_default {
    size_t offset; /* of the field in ag_settings_t */
    double hf;     /* as transformers' configuration of the family has it */
    double gguf;   /* as llama.cpp has it */
    bool is_null;  /* where it is 0, config.json is to say null */
} ag_default_t;

typedef struct ag_family {
    const char *name;
    const char *hf_model_type; /* config.json's model_type */
    const char *hf_class;      /* its architectures */
    const char *hf_act;        /* its key of the activation */
    const char *gguf_arch;     /* general.architecture */
    const char *gguf_mark; /* key after that, above 0 in this family's files alone, or "key=least";
                              NULL: the name says enough */
    bool gguf_window_is_ours;     /* other programs that read such files look at no window */
    bool gguf_lists_windows;      /* such files list which layers have one; config.json, too */
    const ag_key_row_t *keys;     /* ended by a row with both names NULL */
    const ag_default_t *defaults; /* ended by a row without; NULL: there are none */
    const ag_rope_spec_t *default_rope; /* of a config.json without one, but for its base and
                                           dimensions; NULL: a plain one */
    const ag_name_row_t *names;         /* ended by a row with both names NULL */
    /** Fill the spec from the settings; what the config does not say is known here. */
    ag_status_t (*adjust)(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec);
    /**
     * The reverse of adjust(): settings of this family from the spec, beside those of all.
     * @return AG_OK; AG_ERR_UNSUPPORTED: such files cannot say what the spec has.
     */
    ag_status_t (*restore)(const ag_spec_t *spec, bool gguf, ag_settings_t *settings);
} ag_family_t;

extern const ag_family_t *const ag_families[]; /* ended by NULL */

/** The row of a role that such files are written with; NULL: they have no name for it. */
const ag_name_row_t *ag_family_row(const ag_family_t *family, ag_role_t role, bool gguf);

/** A row's transform in such files, of floats. */
ag_transform_t ag_family_transform(const ag_name_row_t *row, bool gguf);

enum { AG_TENSOR_NAME_BYTES = 128 };

/** A row's name for one layer and expert. @param pattern  hf or gguf of a row. */
void ag_family_name(const char *pattern, uint32_t layer, uint32_t expert,
                    char name[AG_TENSOR_NAME_BYTES]);

/* A role's tensor in some files. */
typedef struct ag_found_tensor {
    const ag_model_tensor_t *tensor; /* NULL: the files have none */
    ag_transform_t transform;
    ag_stack_t stack;
    char name[AG_TENSOR_NAME_BYTES]; /* that the files have, or should; empty: the family has none
                                        for such files */
} ag_found_tensor_t;

/** @param expert  0 where there are none. */
ag_found_tensor_t ag_family_find(const ag_family_t *family, const ag_model_files_t *files,
                                 ag_role_t role, uint32_t layer, uint32_t expert);
