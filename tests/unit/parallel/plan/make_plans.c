#include "make_plans.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ag_plan_model_t smol_model(void)
{
    return (ag_plan_model_t){
        .spec_hash = "00112233aabbccdd", .family = "llama", .n_layers = 30, .context_tokens = 8192};
}

ag_plan_t *make_plan_for(const ag_plan_model_t *model, const ag_plan_opts_t *opts)
{
    ag_plan_t *plan = NULL;

    cr_assert_eq(ag_plan_make(model, opts, &plan), AG_OK, "%s", ag_error());
    return plan;
}

ag_plan_t *make_plan(const ag_plan_opts_t *opts)
{
    ag_plan_model_t model = smol_model();

    return make_plan_for(&model, opts);
}

ag_status_t read_plan(const char *text, ag_plan_t **plan_p)
{
    ag_json_t *json;
    ag_status_t status;

    cr_assert_eq(ag_json_parse(text, strlen(text), "p.json", &json), AG_OK, "%s", ag_error());
    status = ag_plan_from_json(json, "p.json", plan_p);
    ag_json_destroy(json);
    return status;
}

char *text_with(const char *text, const char *piece, const char *other)
{
    const char *at = strstr(text, piece);
    char *changed = malloc(strlen(text) + strlen(other) + 1);

    cr_assert_not_null(at, "%s in %s", piece, text);
    sprintf(changed, "%.*s%s%s", (int)(at - text), text, other, at + strlen(piece));
    return changed;
}

static bool record_has(const char *word, va_list words)
{
    bool has = strchr(ag_error(), '\n') == NULL;

    for (; word != NULL; word = va_arg(words, const char *)) {
        has = has && strstr(ag_error(), word) != NULL;
    }
    if (!has) {
        cr_log_error("the error is: %s", ag_error());
    }
    return has;
}

bool refused_saying(const ag_plan_opts_t *opts, const char *word, ...)
{
    ag_plan_model_t model = smol_model();
    ag_plan_t *plan = NULL;
    ag_status_t status = ag_plan_make(&model, opts, &plan);
    va_list words;
    bool has;

    if (status != AG_ERR_INVALID || plan != NULL) {
        cr_log_error("not refused, but %s", ag_status_name(status));
        ag_plan_destroy(plan);
        return false;
    }
    va_start(words, word);
    has = record_has(word, words);
    va_end(words);
    return has;
}

bool error_says(const char *word, ...)
{
    va_list words;
    bool has;

    va_start(words, word);
    has = record_has(word, words);
    va_end(words);
    return has;
}

char *plan_text(const ag_plan_t *plan)
{
    ag_json_t *json = ag_plan_to_json(plan);
    char *text;

    cr_assert_eq(ag_json_text(json, AG_JSON_LINE, &text), AG_OK);
    ag_json_destroy(json);
    return text;
}
