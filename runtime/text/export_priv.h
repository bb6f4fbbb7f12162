/* Parts of what a tokenizer is written as. */
#pragma once

#include "runtime/base/json.h"
#include "runtime/text/tokenizer_priv.h"

/* JSON in few words. */
ag_json_t *ag_json_new_text(const char *text);
void ag_json_set_text(ag_json_t *json, const char *key, const char *text);
void ag_json_set_null(ag_json_t *json, const char *key);

/* What stands beside the model in a tokenizer.json (export_steps.c); null where there is nothing.
 */
ag_json_t *ag_normalizer_to_json(const ag_tokenizer_t *tokenizer);
ag_json_t *ag_pre_tokenizer_to_json(const ag_tokenizer_t *tokenizer);
ag_json_t *ag_decoder_to_json(const ag_tokenizer_t *tokenizer);
/** @param bos, after  texts of the tokens before and behind a text; NULL: none. Taken over. */
ag_json_t *ag_template_to_json(const ag_tokenizer_t *tokenizer, ag_json_t *bos, ag_json_t *after);

/* BPE by scores and by merges (export_merges.c). */

/** Every way to make a word of two, the best words first, as transformers' generate_merges. */
ag_status_t ag_merges_to_json(const ag_tokenizer_t *tokenizer, ag_json_t **merges_p);

/**
 * Scores that make of words what the merges make of them: the earlier it is merged, the better.
 * @param is_word  (pieces) words that merging makes, or begins with.
 * @param scores   out: (pieces)
 * @return AG_OK, AG_ERR_UNSUPPORTED: merges that no scores can say, names one.
 */
ag_status_t ag_merges_to_scores(const ag_tokenizer_t *tokenizer, const bool *is_word,
                                float *scores);

/* How a tokenizer of pieces writes spaces, as GGUF files say it (export_pieces.c). */
typedef struct ag_spacing {
    bool adds_space, removes_extra;
    const ag_normal_step_t *map; /* NULL: none */
} ag_spacing_t;

/** @return AG_OK, AG_ERR_UNSUPPORTED: GGUF files cannot say it. Warns where it nearly does. */
ag_status_t ag_spacing_of(const ag_tokenizer_t *tokenizer, const char *path, ag_spacing_t *spacing);
