/* What a random model is. */
#include "model.h"

#include <string.h>

#include "runtime/base/philox.h"

enum { MOST_FAMILIES = 32, LEAST_NORMED = 16 };

uint32_t dice_below(dice_t *dice, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(dice->seed, 9, dice->n++) * (double)n);
}

bool dice_one_in(dice_t *dice, uint32_t n)
{
    return dice_below(dice, n) == 0;
}

uint32_t dice_between(dice_t *dice, uint32_t from, uint32_t to)
{
    return from + dice_below(dice, to - from + 1);
}

const char *const rope_names[] = {
    [AG_ROPE_DEFAULT] = "default",
    [AG_ROPE_LINEAR] = "linear",
    [AG_ROPE_LLAMA3] = "llama3",
    [AG_ROPE_YARN] = "yarn",
};

/* Those with experts and those without in turn: there is more to meet with them. */
static const family_t *draw_family(uint64_t number)
{
    const family_t *known[MOST_FAMILIES];
    bool has_experts = number % 2 != 0;
    uint32_t n = 0;

    for (const family_t *family = families; family->name != NULL; family++) {
        if (family_is_known(family) && family->has_experts == has_experts && n < MOST_FAMILIES) {
            known[n++] = family;
        }
    }
    return known[number / 2 % n];
}

/* Rows of whole blocks, now and then others. */
static void draw_widths(dice_t *dice, uint32_t block, model_t *model)
{
    static const uint32_t head_dims[] = {8, 16, 24, 32, 64};
    bool is_odd = !model->is_gguf || dice_one_in(dice, 6);
    uint32_t grain = is_odd ? 2 : block > 1 ? block : 32;
    uint32_t most = block > 64 ? block : 128, least = LEAST_NORMED;

    model->head_dim = head_dims[dice_below(dice, 5)];
    model->n_kv_heads = dice_between(dice, 1, 3);
    model->n_heads = model->n_kv_heads * dice_between(dice, 1, 4);
    /* a norm over a few numbers may be over hardly any, and makes of an error a large one */
    if (model->is_wide) {
        least = 256;
        most = 512;
    }
    model->hidden = dice_between(dice, (least + grain - 1) / grain, most / grain) * grain;
    model->ffn = dice_between(dice, 1, 224 / grain + 1) * grain;
    /* nor over many, if they all come of a few: where 4 numbers happen to be small at once, a norm
     * behind them makes them large, and their roundings with them */
    if (model->family->norms_after && model->ffn < LEAST_NORMED) {
        model->ffn = LEAST_NORMED;
    }
    if (!is_odd && block > 1 && !dice_one_in(dice, 3)) { /* o's rows are of whole blocks, too */
        model->head_dim = block > 64 ? 64 : 32;
        model->n_kv_heads = block > 64 ? 2 : model->n_kv_heads;
        model->n_heads = block > 64 ? 4 : model->n_kv_heads * dice_between(dice, 1, 2);
    }
}

/* Of those that GGUF files have. */
static ag_dtype_t draw_type(dice_t *dice)
{
    ag_dtype_t types[AG_N_DTYPES];
    uint32_t n = 0;

    for (int type = 0; type < AG_N_DTYPES; type++) {
        if (ag_dtype_info((ag_dtype_t)type)->ggml_type >= 0) {
            types[n++] = (ag_dtype_t)type;
        }
    }
    return types[dice_below(dice, n)];
}

model_t model_draw(dice_t *dice, uint64_t number)
{
    model_t model = {.seed = dice->seed, .is_gguf = number % 2 == 0};
    ag_dtype_t of_folders[] = {AG_F32, AG_F32, AG_BF16, AG_F16};

    model.family = draw_family(number / 2);
    model.type = model.is_gguf ? draw_type(dice) : of_folders[dice_below(dice, 4)];
    model.other_type = !model.is_gguf || dice_one_in(dice, 2) ? model.type : draw_type(dice);
    model.is_wide = dice_one_in(dice, 12);
    draw_widths(dice, ag_dtype_info(model.type)->block_elements, &model);
    model.n_layers = dice_between(
        dice, 1, model.is_wide || ag_dtype_info(model.type)->block_elements > 32 ? 2 : 4);
    model.vocab = dice_between(dice, 20, 300);
    model.context = dice_between(dice, model.is_wide ? 80 : 24, 100);
    model.is_tied = dice_one_in(dice, 2);
    model.o_bias = model.family->biases == BIASES_ALL ||
                   (model.family->biases >= BIASES_ATTENTION && dice_one_in(dice, 3));
    model.qkv_bias = model.o_bias || model.family->biases == BIASES_QKV;
    model.ffn_bias = model.family->biases == BIASES_ALL ||
                     (model.family->biases == BIASES_ANY && dice_one_in(dice, 3));
    model.rope = (ag_rope_kind_t)dice_below(dice, 4);
    model.rotates = model.head_dim;
    if (model.family->rotates_part && dice_one_in(dice, 2)) {
        model.rotates = model.head_dim / 4 * 3 / 2 * 2;
    }
    if (model.family->has_positions) {
        model.rope = AG_ROPE_DEFAULT;
        model.n_heads = model.n_kv_heads = model.hidden % 4 == 0 ? 4 : 2;
        model.head_dim = model.hidden / model.n_heads;
    }
    if (model.is_gguf && model.rope == AG_ROPE_LLAMA3) { /* there it is a table of factors */
        model.rope = AG_ROPE_DEFAULT;
    }
    if (!model.is_gguf && model.family->rotates_part && model.rope == AG_ROPE_YARN) {
        model.rope = AG_ROPE_DEFAULT; /* its old name for factors by the context */
    }
    if (model.family->has_experts) {
        experts_draw(dice, &model);
    }
    if (model.family->windows != NO_LAYERS &&
        (model.family->windows != ALL_OR_NONE || dice_one_in(dice, 2))) {
        /* attention within one token has no gradient but rounding */
        model.window = dice_between(dice, 2, dice_one_in(dice, 2) ? 8 : 50);
    }
    if (model.family->windows == IN_TURN) {
        model.period = model.is_gguf ? model.family->period : dice_between(dice, 1, 2);
    }
    if (model.family->has_caps) {
        model.score_cap = 0.75f * (float)(dice_between(dice, 1, 4) * model.family->caps_scores);
        model.logit_cap = 1.5f * (float)dice_between(dice, 1, 4);
        model.query_scalar = model.is_gguf ? 0 : dice_between(dice, 8, 64);
    }
    return model;
}

void model_print(const model_t *model, FILE *file)
{
    fprintf(file,
            "model: %s, %s, layers %u, hidden %u, heads %u over %u of %u, ffn %u, vocab %u, "
            "context %u, rope %s, %s and %s%s%s%s",
            model->family->name, model->is_gguf ? "gguf" : "folder", model->n_layers, model->hidden,
            model->n_heads, model->n_kv_heads, model->head_dim, model->ffn, model->vocab,
            model->context, rope_names[model->rope], ag_dtype_info(model->type)->name,
            ag_dtype_info(model->other_type)->name, model->is_tied ? ", tied" : "",
            model->qkv_bias ? ", attention biases" : "", model->ffn_bias ? ", ffn biases" : "");
    if (model->n_experts > 0) {
        fprintf(file, ", experts %u of %u", model->n_experts_used, model->n_experts);
    }
    if (model->window > 0) {
        fprintf(file, ", window %u", model->window);
    }
    if (model->logit_cap > 0) {
        fprintf(file, ", period %u, scores capped at %g, logits at %g", model->period,
                (double)model->score_cap, (double)model->logit_cap);
    }
    fputc('\n', file);
}
