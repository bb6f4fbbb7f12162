#include "runtime/text/read_steps_priv.h"

#include <stdio.h>
#include <string.h>

static ag_status_t fail_here(const ag_steps_t *steps, const char *what)
{
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s", steps->path, what);
}

ag_status_t ag_step_read(ag_steps_t *steps, const ag_json_t *json, const char *what,
                         const char *members, const ag_step_type_t *types, size_t n)
{
    const char *type = ag_json_string(ag_json_get(json, "type"), NULL);
    const ag_json_t *list = ag_json_get(json, members);
    char names[512];
    size_t n_names = 0;
    ag_status_t status = AG_OK;

    if (type != NULL && strcmp(type, "Sequence") == 0 && ag_json_kind(list) == AG_JSON_ARRAY) {
        for (size_t i = 0; i < ag_json_size(list) && status == AG_OK; i++) {
            status = ag_step_read(steps, ag_json_at(list, i), what, members, types, n);
        }
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        if (type != NULL && strcmp(type, types[i].name) == 0) {
            return types[i].read(steps, json);
        }
        n_names +=
            (size_t)snprintf(names + n_names, sizeof(names) - n_names, "%s, ", types[i].name);
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: the %s \"%s\" is not known (known: %sa Sequence of these)", steps->path,
                   what, ag_quote(type != NULL ? type : "", type != NULL ? strlen(type) : 0).text,
                   names);
}

static ag_status_t add_rule(ag_steps_t *steps, const ag_split_rule_t *rule)
{
    if (steps->is_byte_level) {
        return fail_here(steps, "a pre-tokenizer that works on bytes already mapped (known: "
                                "ByteLevel as the last step)");
    }
    if (steps->n_rules == AG_MOST_SPLIT_RULES) {
        return fail_here(steps, "a pre-tokenizer of more steps than any known");
    }
    steps->rules[steps->n_rules++] = *rule;
    return AG_OK;
}

static ag_status_t read_split(ag_steps_t *steps, const ag_json_t *json)
{
    const ag_json_t *literal = ag_json_path(json, "pattern.String");
    const char *behavior = ag_json_string(ag_json_get(json, "behavior"), NULL);
    size_t n_bytes;
    ag_split_rule_t rule = {.literal = literal != NULL,
                            .invert = ag_json_bool(ag_json_get(json, "invert"), false)};

    rule.pattern =
        ag_json_string(literal != NULL ? literal : ag_json_path(json, "pattern.Regex"), &n_bytes);
    if (rule.pattern != NULL && n_bytes > 0 && strlen(rule.pattern) == n_bytes &&
        behavior != NULL && ag_cut_of(behavior, &rule.cut)) {
        return add_rule(steps, &rule);
    }
    return fail_here(steps, "a pre-tokenizer Split whose pattern or behavior is not known");
}

static ag_status_t read_digits(ag_steps_t *steps, const ag_json_t *json)
{
    bool each = ag_json_bool(ag_json_get(json, "individual_digits"), false);

    return add_rule(steps, &(ag_split_rule_t){.pattern = each ? "\\p{N}" : "\\p{N}+"});
}

static ag_status_t read_white_space(ag_steps_t *steps, const ag_json_t *json)
{
    (void)json;
    return add_rule(steps, &(ag_split_rule_t){.pattern = "\\s", .cut = AG_CUT_REMOVED});
}

static ag_status_t read_punctuation(ag_steps_t *steps, const ag_json_t *json)
{
    const char *behavior = ag_json_string(ag_json_get(json, "behavior"), NULL);
    ag_split_rule_t rule = {.pattern = "[!-/:-@\\[-`{-~\\p{P}]"};

    if (behavior != NULL && !ag_cut_of(behavior, &rule.cut)) {
        return fail_here(steps, "a pre-tokenizer Punctuation whose behavior is not known");
    }
    return add_rule(steps, &rule);
}

static ag_status_t read_byte_level(ag_steps_t *steps, const ag_json_t *json)
{
    ag_status_t status = AG_OK;

    if (ag_json_bool(ag_json_get(json, "add_prefix_space"), true)) {
        status = add_rule(steps, &(ag_split_rule_t){.kind = AG_RULE_PREFIX, .pattern = " "});
    }
    if (status == AG_OK && ag_json_bool(ag_json_get(json, "use_regex"), true)) {
        status = add_rule(steps, &(ag_split_rule_t){.pattern = ag_pattern_gpt2});
    }
    if (status == AG_OK && steps->is_byte_level) {
        status = fail_here(steps, "a pre-tokenizer that maps to bytes twice");
    }
    steps->is_byte_level = true;
    return status;
}

/* What stands for a space, and where one comes before a text; the older spelling is a boolean. */
static bool read_metaspace_of(const ag_json_t *json, const char **space_p, ag_prepend_t *prepend_p)
{
    const ag_json_t *scheme = ag_json_get(json, "prepend_scheme");
    const char *name = ag_json_string(scheme, NULL);
    size_t n_bytes = 0;

    *space_p = ag_json_string(ag_json_get(json, "replacement"), &n_bytes);
    *prepend_p = ag_json_bool(ag_json_get(json, "add_prefix_space"), true) ? AG_PREPEND_ALWAYS
                                                                           : AG_PREPEND_NEVER;
    return *space_p != NULL && n_bytes > 0 && n_bytes <= 4 && strlen(*space_p) == n_bytes &&
           (scheme == NULL || (name != NULL && ag_prepend_of(name, prepend_p)));
}

static ag_status_t read_metaspace(ag_steps_t *steps, const ag_json_t *json)
{
    ag_split_rule_t rule = {.kind = AG_RULE_METASPACE,
                            .whole = !ag_json_bool(ag_json_get(json, "split"), true)};

    return read_metaspace_of(json, &rule.pattern, &rule.prepend)
               ? add_rule(steps, &rule)
               : fail_here(steps,
                           "a pre-tokenizer Metaspace whose replacement or scheme is not known");
}

static ag_status_t read_pre_tokenizer(ag_steps_t *steps, const ag_json_t *json)
{
    static const ag_step_type_t types[] = {
        {"Split", read_split},
        {"Digits", read_digits},
        {"ByteLevel", read_byte_level},
        {"Metaspace", read_metaspace},
        {"Punctuation", read_punctuation},
        {"WhitespaceSplit", read_white_space},
    };

    return ag_step_read(steps, json, "pre-tokenizer", "pretokenizers", types,
                        sizeof(types) / sizeof(types[0]));
}

/* One text becomes another in each token; of such there may be one. */
static ag_status_t set_replaced(ag_steps_t *steps, const char *from, const char *to)
{
    ag_decoder_t *decoder = &steps->decoder;

    if (decoder->from[0] != '\0' || steps->is_fused || strlen(from) >= sizeof(decoder->from) ||
        strlen(to) >= sizeof(decoder->to)) {
        return fail_here(steps, "a decoder that replaces more than one short text, which is not "
                                "known");
    }
    strcpy(decoder->from, from);
    strcpy(decoder->to, to);
    return AG_OK;
}

static ag_status_t decode_replace(ag_steps_t *steps, const ag_json_t *json)
{
    size_t n_from = 0, n_to = 0;
    const char *from = ag_json_string(ag_json_path(json, "pattern.String"), &n_from);
    const char *to = ag_json_string(ag_json_get(json, "content"), &n_to);

    return from != NULL && to != NULL && n_from > 0 && strlen(from) == n_from && strlen(to) == n_to
               ? set_replaced(steps, from, to)
               : fail_here(steps, "a decoder Replace whose pattern or content is not known");
}

static ag_status_t decode_bytes(ag_steps_t *steps, const ag_json_t *json)
{
    (void)json;
    steps->decoder.has_bytes = true;
    return AG_OK;
}

static ag_status_t decode_fuse(ag_steps_t *steps, const ag_json_t *json)
{
    (void)json;
    steps->is_fused = true;
    return AG_OK;
}

static ag_status_t decode_strip(ag_steps_t *steps, const ag_json_t *json)
{
    const char *content = ag_json_string(ag_json_get(json, "content"), NULL);
    int64_t start = ag_json_integer(ag_json_get(json, "start"), 0);

    if (content == NULL || strcmp(content, " ") != 0 || !steps->is_fused || start < 0 ||
        start > UINT16_MAX || ag_json_integer(ag_json_get(json, "stop"), 0) != 0) {
        return fail_here(steps, "a decoder Strip that is not known (known: of spaces at the start, "
                                "after Fuse)");
    }
    steps->decoder.n_strip += (uint32_t)start;
    return AG_OK;
}

static ag_status_t decode_metaspace(ag_steps_t *steps, const ag_json_t *json)
{
    const char *space;
    ag_prepend_t prepend;

    if (!read_metaspace_of(json, &space, &prepend)) {
        return fail_here(steps, "a decoder Metaspace whose replacement or scheme is not known");
    }
    steps->decoder.drops_first = prepend != AG_PREPEND_NEVER;
    return set_replaced(steps, space, " ");
}

static ag_status_t decode_byte_level(ag_steps_t *steps, const ag_json_t *json)
{
    (void)json;
    return steps->is_byte_level
               ? AG_OK
               : fail_here(steps, "a decoder ByteLevel without such a pre-tokenizer");
}

static ag_status_t read_decoder(ag_steps_t *steps, const ag_json_t *json)
{
    static const ag_step_type_t types[] = {
        {"ByteLevel", decode_byte_level}, {"Replace", decode_replace},
        {"ByteFallback", decode_bytes},   {"Fuse", decode_fuse},
        {"Strip", decode_strip},          {"Metaspace", decode_metaspace},
    };

    return ag_step_read(steps, json, "decoder", "decoders", types,
                        sizeof(types) / sizeof(types[0]));
}

/* The one id that a template's special token stands for; -1: none. */
static ag_status_t template_id(const ag_steps_t *steps, const ag_json_t *json,
                               const ag_json_t *part, int64_t *id_p)
{
    const char *name = ag_json_string(ag_json_path(part, "SpecialToken.id"), NULL);
    const ag_json_t *token =
        name != NULL ? ag_json_get(ag_json_get(json, "special_tokens"), name) : NULL;
    const ag_json_t *ids = ag_json_get(token, "ids");

    if (ag_json_size(ids) > 1) {
        return fail_here(steps, "a post-processor whose special token is several ids");
    }
    *id_p = ag_json_integer(ag_json_at(ids, 0), -1);
    return AG_OK;
}

/* One token before a single text, one behind it, or none. */
static ag_status_t process_template(ag_steps_t *steps, const ag_json_t *json)
{
    const ag_json_t *single = ag_json_get(json, "single");
    size_t n = ag_json_size(single), text = n;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n; i++) {
        text = ag_json_get(ag_json_at(single, i), "Sequence") != NULL ? i : text;
    }
    if (text > 1 || n > text + 2) {
        return fail_here(steps, "a post-processor TemplateProcessing that is not known (known: a "
                                "text with one token before it, one behind it, or none)");
    }
    if (text == 1) {
        status = template_id(steps, json, ag_json_at(single, 0), &steps->bos);
    }
    if (status == AG_OK && n == text + 2) {
        status = template_id(steps, json, ag_json_at(single, n - 1), &steps->after);
    }
    return status;
}

/* cls and sep are pairs of text and id. */
static ag_status_t process_bert(ag_steps_t *steps, const ag_json_t *json)
{
    steps->bos = ag_json_integer(ag_json_at(ag_json_get(json, "cls"), 1), -1);
    steps->after = ag_json_integer(ag_json_at(ag_json_get(json, "sep"), 1), -1);
    return AG_OK;
}

/* Offsets alone, which are not told here. */
static ag_status_t process_nothing(ag_steps_t *steps, const ag_json_t *json)
{
    (void)steps;
    (void)json;
    return AG_OK;
}

/*
 * What comes before and behind a text. Nothing else says so: where there is a tokenizer.json,
 * transformers 5 drops add_bos_token and add_eos_token of tokenizer_config.json
 * (PreTrainedTokenizerBase._from_pretrained), whatever tokenizer_class is.
 */
static ag_status_t read_post_processor(ag_steps_t *steps, const ag_json_t *json)
{
    static const ag_step_type_t types[] = {
        {"TemplateProcessing", process_template},
        {"ByteLevel", process_nothing},
        {"BertProcessing", process_bert},
        {"RobertaProcessing", process_bert},
    };

    return ag_step_read(steps, json, "post-processor", "processors", types,
                        sizeof(types) / sizeof(types[0]));
}

/* Which word is the first is seen in the text as it was, where Hugging Face counts. */
static bool loses_first(const ag_steps_t *steps)
{
    for (size_t i = 1; i < steps->n_rules && steps->n_normal > 0; i++) {
        if (steps->rules[i].kind == AG_RULE_METASPACE &&
            steps->rules[i].prepend == AG_PREPEND_FIRST) {
            return true;
        }
    }
    return false;
}

ag_status_t ag_steps_read(const ag_json_t *json, ag_steps_t *steps)
{
    static const struct {
        const char *key;
        ag_status_t (*read)(ag_steps_t *steps, const ag_json_t *json);
    } parts[] = {{"normalizer", ag_steps_read_normalizer},
                 {"pre_tokenizer", read_pre_tokenizer},
                 {"decoder", read_decoder},
                 {"post_processor", read_post_processor}};
    ag_status_t status = AG_OK;

    steps->bos = steps->after = -1;
    steps->map = AG_ARRAY(char);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && status == AG_OK; i++) {
        const ag_json_t *part = ag_json_get(json, parts[i].key);

        status = ag_json_kind(part) > AG_JSON_NULL ? parts[i].read(steps, part) : AG_OK;
    }
    return status == AG_OK && loses_first(steps)
               ? fail_here(steps,
                           "a pre-tokenizer Metaspace of the first word, behind others and a "
                           "normalizer, which is not known")
               : status;
}

void ag_steps_fini(ag_steps_t *steps)
{
    ag_array_fini(&steps->map);
}
