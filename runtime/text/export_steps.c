/* What stands beside the model in a tokenizer.json. */
#include <string.h>

#include "runtime/text/export_priv.h"

ag_json_t *ag_json_new_text(const char *text)
{
    return ag_json_new_string(text, strlen(text));
}

void ag_json_set_text(ag_json_t *json, const char *key, const char *text)
{
    ag_json_set(json, key, ag_json_new_text(text));
}

static ag_json_t *new_null(void)
{
    return ag_json_new_real(0.0 / 0.0); /* what is not finite is null */
}

void ag_json_set_null(ag_json_t *json, const char *key)
{
    ag_json_set(json, key, new_null());
}

static ag_json_t *new_step(const char *type)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set_text(json, "type", type);
    return json;
}

/* One step, or several in a Sequence. */
static ag_json_t *new_sequence(const char *members, ag_json_t *steps)
{
    ag_json_t *json = new_step("Sequence");

    ag_json_set(json, members, steps);
    return json;
}

static ag_json_t *pattern_json(const char *pattern, bool literal)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set_text(json, literal ? "String" : "Regex", pattern);
    return json;
}

/* Base64 (RFC 4648). */
static ag_json_t *base64_json(const char *bytes, size_t n_bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ag_array_t text = AG_ARRAY(char);
    ag_status_t status = AG_OK;
    ag_json_t *json;

    for (size_t i = 0; i < n_bytes && status == AG_OK; i += 3) {
        uint32_t bits = 0;
        char four[4];

        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (i + k < n_bytes ? (unsigned char)bytes[i + k] : 0u);
        }
        for (size_t k = 0; k < 4; k++) {
            four[k] = i + k <= n_bytes ? letters[bits >> (18 - 6 * k) & 63] : '=';
        }
        status = ag_array_append(&text, four, 4);
    }
    json = status == AG_OK ? ag_json_new_string(text.items, text.n_items) : NULL;
    ag_array_fini(&text);
    return json;
}

static ag_json_t *normal_step(const ag_normal_step_t *step)
{
    ag_json_t *json = new_step(ag_normal_kind_name(step->kind));

    if (step->kind == AG_NORMAL_STRIP) {
        ag_json_set(json, "strip_left", ag_json_new_bool(step->left));
        ag_json_set(json, "strip_right", ag_json_new_bool(step->right));
    } else if (step->kind == AG_NORMAL_REPLACE) {
        ag_json_set(json, "pattern", pattern_json(step->pattern, step->literal));
        ag_json_set(json, "content", ag_json_new_string(step->content, step->n_content));
    } else if (step->kind == AG_NORMAL_PREPEND) {
        ag_json_set(json, "prepend", ag_json_new_string(step->content, step->n_content));
    } else if (step->kind == AG_NORMAL_CHARSMAP || step->kind == AG_NORMAL_CHARSMAP_BY_CHAR) {
        ag_json_set(json, "precompiled_charsmap", base64_json(step->content, step->n_content));
    }
    return json;
}

ag_json_t *ag_normalizer_to_json(const ag_tokenizer_t *tokenizer)
{
    size_t n;
    const ag_normal_step_t *steps = ag_normalizer_steps(tokenizer->normalizer, &n);
    ag_json_t *list;

    if (n < 2) {
        return n == 0 ? new_null() : normal_step(&steps[0]);
    }
    list = ag_json_new_array();
    for (size_t i = 0; i < n; i++) {
        ag_json_append(list, normal_step(&steps[i]));
    }
    return new_sequence("normalizers", list);
}

static ag_json_t *byte_level(bool use_regex)
{
    ag_json_t *json = new_step("ByteLevel");

    ag_json_set(json, "add_prefix_space", ag_json_new_bool(false));
    ag_json_set(json, "trim_offsets", ag_json_new_bool(true));
    ag_json_set(json, "use_regex", ag_json_new_bool(use_regex));
    return json;
}

/* Those that GGUF files name: a Split for each rule, then bytes. */
ag_json_t *ag_pre_tokenizer_to_json(const ag_tokenizer_t *tokenizer)
{
    size_t n;
    const ag_split_rule_t *rules = ag_splitter_rules(tokenizer->splitter, &n);
    ag_json_t *steps;

    if (tokenizer->model != AG_MODEL_BYTES) {
        return new_null(); /* spaces are the normalizer's */
    }
    steps = ag_json_new_array();
    for (size_t i = 0; i < n; i++) {
        ag_json_t *split = new_step("Split");

        ag_json_set(split, "pattern", pattern_json(rules[i].pattern, rules[i].literal));
        ag_json_set_text(split, "behavior", ag_cut_name(rules[i].cut));
        ag_json_set(split, "invert", ag_json_new_bool(rules[i].invert));
        ag_json_append(steps, split);
    }
    ag_json_append(steps, byte_level(false));
    return new_sequence("pretokenizers", steps);
}

ag_json_t *ag_decoder_to_json(const ag_tokenizer_t *tokenizer)
{
    const ag_decoder_t *decoder = &tokenizer->decoder;
    ag_json_t *steps, *step;

    if (tokenizer->model == AG_MODEL_BYTES) {
        return byte_level(true);
    }
    steps = ag_json_new_array();
    step = new_step("Replace");
    ag_json_set(step, "pattern", pattern_json(decoder->from, true));
    ag_json_set_text(step, "content", decoder->to);
    ag_json_append(steps, step);
    ag_json_append(steps, new_step("ByteFallback"));
    ag_json_append(steps, new_step("Fuse"));
    if (decoder->n_strip > 0) {
        step = new_step("Strip");
        ag_json_set_text(step, "content", " ");
        ag_json_set(step, "start", ag_json_new_integer(decoder->n_strip));
        ag_json_set(step, "stop", ag_json_new_integer(0));
        ag_json_append(steps, step);
    }
    return new_sequence("decoders", steps);
}

static ag_json_t *part(const char *kind, const char *id, int type_id)
{
    ag_json_t *json = ag_json_new_object(), *inner = ag_json_new_object();

    ag_json_set_text(inner, "id", id);
    ag_json_set(inner, "type_id", ag_json_new_integer(type_id));
    ag_json_set(json, kind, inner);
    return json;
}

/* A text, and a pair, which is one after the other. */
static void append_text(ag_json_t *parts, const char *bos, const char *after, int type_id)
{
    if (bos != NULL) {
        ag_json_append(parts, part("SpecialToken", bos, type_id));
    }
    ag_json_append(parts, part("Sequence", type_id == 0 ? "A" : "B", type_id));
    if (after != NULL) {
        ag_json_append(parts, part("SpecialToken", after, type_id));
    }
}

static void set_special(ag_json_t *special, const char *text, int32_t id)
{
    ag_json_t *token = ag_json_new_object(), *ids = ag_json_new_array();
    ag_json_t *texts = ag_json_new_array();

    ag_json_append(ids, ag_json_new_integer(id));
    ag_json_append(texts, ag_json_new_text(text));
    ag_json_set_text(token, "id", text);
    ag_json_set(token, "ids", ids);
    ag_json_set(token, "tokens", texts);
    ag_json_set(special, text, token);
}

ag_json_t *ag_template_to_json(const ag_tokenizer_t *tokenizer, ag_json_t *bos, ag_json_t *after)
{
    const char *before = ag_json_string(bos, NULL), *behind = ag_json_string(after, NULL);
    ag_json_t *json = new_step("TemplateProcessing"), *special = ag_json_new_object();
    ag_json_t *single = ag_json_new_array(), *pair = ag_json_new_array();

    append_text(single, before, behind, 0);
    append_text(pair, before, behind, 0);
    append_text(pair, before, behind, 1);
    if (before != NULL) {
        set_special(special, before, tokenizer->bos);
    }
    if (behind != NULL) {
        set_special(special, behind, tokenizer->after);
    }
    ag_json_set(json, "single", single);
    ag_json_set(json, "pair", pair);
    ag_json_set(json, "special_tokens", special);
    if (before == NULL && behind == NULL) {
        ag_json_destroy(json);
        json = new_null();
    }
    ag_json_destroy(bos);
    ag_json_destroy(after);
    return json;
}
