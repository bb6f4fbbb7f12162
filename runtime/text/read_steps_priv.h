/* tokenizer.json beside its model: normalizer, pre_tokenizer, decoder, post_processor. */
#pragma once

#include "runtime/base/json.h"
#include "runtime/text/tokenizer_priv.h"

/* What a file says; texts are borrowed from its JSON. */
typedef struct ag_steps {
    const char *path; /* of the file, for errors */
    ag_normal_step_t normal[AG_MOST_NORMAL_STEPS];
    size_t n_normal;
    ag_array_t map; /* char: a precompiled map */
    ag_split_rule_t rules[AG_MOST_SPLIT_RULES];
    size_t n_rules;
    bool is_byte_level; /* the pre-tokenizer's last step is ByteLevel */
    ag_decoder_t decoder;
    bool is_fused;      /* the decoder has made one text of all tokens */
    int64_t bos, after; /* before and behind a text; -1: none */
} ag_steps_t;

/** @param steps  path is set; to be released by ag_steps_fini(). @return AG_OK, AG_ERR_UNSUPPORTED:
 * names what is not known; AG_ERR_FORMAT. */
ag_status_t ag_steps_read(const ag_json_t *json, ag_steps_t *steps);
void ag_steps_fini(ag_steps_t *steps);

/* A kind of step, by the name that "type" has. */
typedef struct ag_step_type {
    const char *name;
    ag_status_t (*read)(ag_steps_t *steps, const ag_json_t *json);
} ag_step_type_t;

/**
 * Read a step, or what is in a Sequence. @param what  as errors call it: "normalizer".
 * @param members  where a Sequence has them. @param types  (n)
 */
ag_status_t ag_step_read(ag_steps_t *steps, const ag_json_t *json, const char *what,
                         const char *members, const ag_step_type_t *types, size_t n);

/* One of the four each; null is in order (read_normalizer.c, read_steps.c). */
ag_status_t ag_steps_read_normalizer(ag_steps_t *steps, const ag_json_t *json);
