/* Small models with random weights, written as files: what each is follows from a seed. */
#pragma once

#include <stdio.h>

#include "runtime/base/status.h"
#include "runtime/model/spec.h"

/* Numbers drawn one after the other. */
typedef struct dice {
    uint64_t seed, n;
} dice_t;

/** Below n. */
uint32_t dice_below(dice_t *dice, uint32_t n);

/** One chance in n. */
bool dice_one_in(dice_t *dice, uint32_t n);

/** [from, to], both included. */
uint32_t dice_between(dice_t *dice, uint32_t from, uint32_t to);

/* How long a tensor is along an axis, as the shape of a model says. */
typedef enum axis {
    AXIS_NONE,
    AXIS_HIDDEN,
    AXIS_HEAD, /* a head's size */
    AXIS_Q,    /* query heads times their size */
    AXIS_KV,   /* key-value heads times their size */
    AXIS_QKV,  /* of all three */
    AXIS_FFN,
    AXIS_FFN_2, /* of two of that size */
    AXIS_POSITIONS,
    AXIS_VOCAB,
    AXIS_EXPERTS,
    AXIS_ONE,
    AXIS_HEADS,  /* query heads */
    AXIS_SHARED, /* the shared expert's width */
    AXIS_Q_RANK, /* of latent vectors */
    AXIS_KV_RANK,
    AXIS_KV_A,       /* that, and what of keys rotates */
    AXIS_KV_B,       /* heads times what is made for each */
    AXIS_HEAD_RANKS, /* heads times that vector */
    AXIS_KEY_PART,   /* what of a head's key is made of it */
    AXIS_VALUES,
} axis_t;

/* When a model has a tensor. */
typedef enum presence {
    ALWAYS,
    IF_UNTIED,
    IF_QKV_BIAS,
    IF_O_BIAS,
    IF_FFN_BIAS,
    IF_Q_RANK,
    IF_NO_Q_RANK,
    IF_SPLIT, /* keys and values of latent vectors have a tensor each */
    IF_NO_SPLIT,
    N_PRESENCES,
} presence_t;

/* How a tensor stands in files of one kind. */
typedef enum form {
    FORM_PLAIN,
    FORM_STACK,      /* GGUF: all experts' in one */
    FORM_TRANSPOSED, /* folders: (cols, rows) */
} form_t;

typedef struct tensor_row {
    const char *hf, *gguf; /* without ".weight"; %u is the layer, a second one the expert */
    axis_t rows, cols;     /* cols: AXIS_NONE: a vector */
    presence_t presence;
    form_t form;
    const char *ending; /* "of GGUF files|of folders", or of both */
} tensor_row_t;

/* Which layers have a window. */
typedef enum windows {
    NO_LAYERS,
    ALL_LAYERS,
    ALL_OR_NONE, /* as it comes */
    IN_TURN,     /* but one of a period, which is a setting of folders */
} windows_t;

/* Which biases models of a family have. */
typedef enum biases {
    BIASES_NONE,
    BIASES_QKV,       /* of q, k and v, always */
    BIASES_ATTENTION, /* of all of attention, or none */
    BIASES_ANY,       /* and of the feed-forward part, or none */
    BIASES_ALL,       /* of all of these, always */
} biases_t;

/* What a family's experts and their router are. */
typedef enum experts {
    EXPERTS_NONE,
    EXPERTS_ALWAYS_NORMED,
    EXPERTS_NORMED, /* in GGUF files always */
    EXPERTS_PARTS,  /* there never */
    EXPERTS_SHARED, /* as before, with a shared one */
    EXPERTS_V2,     /* shared ones, groups, latent keys and values */
    EXPERTS_V3,     /* and sigmoids with a preference */
} experts_t;

/* A family of models: what its files hold. */
typedef struct family {
    const char *name; /* as runtime/model has it */
    const char *gguf_arch;
    bool has_experts;
    experts_t experts;
    biases_t biases;
    windows_t windows;
    uint32_t period;  /* of GGUF files */
    bool has_caps;    /* of logits, and a scale of scores in folders */
    bool caps_scores; /* too */
    bool adds_1;      /* to norms' weights, of folders: they stand around 0 there */
    bool norms_after; /* what attention and the feed-forward part make, before it is added */
    bool has_sinks;
    const char *hf_type;         /* NULL: its name */
    bool has_positions;          /* of a table; no rope, and heads as wide as the residual stream */
    bool rotates_part;           /* now and then, of a head */
    const tensor_row_t *tensors; /* ended by one without names */
} family_t;

extern const family_t families[]; /* ended by one without a name */

/** Does runtime/model know the family? */
bool family_is_known(const family_t *family);

typedef struct model {
    uint64_t seed; /* of its weights */
    const family_t *family;
    bool is_gguf;
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab, context;
    uint32_t n_experts, n_experts_used, shared, n_groups, n_groups_used, n_dense;
    uint32_t q_rank, kv_rank, rotary, value_dim; /* of latent keys and values; else 0 */
    bool is_split;
    bool sums_to_1;
    uint32_t rotates;        /* dimensions of a head; of latent keys and values that is another's */
    uint32_t window, period; /* 0: none */
    uint32_t query_scalar;   /* 0: as the family has it */
    float score_cap, logit_cap;
    bool is_wide; /* long steps have large sums */
    bool is_tied, qkv_bias, o_bias, ffn_bias;
    ag_rope_kind_t rope;
    ag_dtype_t type, other_type; /* of most matrices, and of some; where rows are of whole blocks */
} model_t;

extern const char *const rope_names[]; /* by kind, of those that are drawn */

/** @param number  of the case: families and types take turns by it. */
model_t model_draw(dice_t *dice, uint64_t number);

/** How long its tensors are along an axis (families.c). */
uint64_t model_length(const model_t *model, axis_t axis);

/** One line. */
void model_print(const model_t *model, FILE *file);

/**
 * Write its files.
 * @param folder  an existing folder, what is in it is replaced.
 * @param path    out: what to open.
 */
ag_status_t model_write(const model_t *model, const char *folder, char path[256]);

/* families_experts.c: */

/* What a GGUF file says of a model, and config.json by other names. */
typedef struct setting {
    const char *hf, *gguf; /* gguf: after the architecture */
    double value;
    bool is_real;
} setting_t;

extern const tensor_row_t tensors_qwen2_moe[], tensors_qwen3_moe[], tensors_olmoe[],
    tensors_gpt_oss[], tensors_deepseek_v2[], tensors_deepseek_v3[];

/** What a model with experts has besides. */
void experts_draw(dice_t *dice, model_t *model);

/** Its settings. @return how many were written. */
uint32_t experts_settings(const model_t *model, setting_t *settings);
