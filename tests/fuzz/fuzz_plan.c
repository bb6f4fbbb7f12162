/*
 * Plans: bytes as a plan file, and as options (tp, tensor split, pipeline split, memory, pp, ep,
 * expert split, a line each). Whatever is taken must come back the same from its own JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"

#include "parallel/plan/mesh.h"

static char *text_of(const ag_plan_t *plan)
{
    ag_json_t *json = ag_plan_to_json(plan);
    char *text;

    expect(ag_json_text(json, AG_JSON_LINE, &text) == AG_OK);
    ag_json_destroy(json);
    return text;
}

static const ag_plan_model_t model = {
    .spec_hash = "00112233aabbccdd", .family = "llama", .n_layers = 30, .context_tokens = 8192};
static const ag_plan_model_t of_experts = {.spec_hash = "00112233aabbccdd",
                                           .family = "mixtral",
                                           .n_layers = 30,
                                           .context_tokens = 8192,
                                           .n_experts = 5};

static bool works(void *arg, const ag_plan_opts_t *opts)
{
    ag_plan_t *plan;
    bool made = ag_plan_make(&model, opts, &plan) == AG_OK;

    (void)arg;
    if (made) {
        ag_plan_destroy(plan);
    }
    return made;
}

/* @param opts  that it was made of; NULL: it came from a file. */
static void use_plan(const ag_plan_t *plan, const ag_plan_opts_t *opts)
{
    char *text = text_of(plan), *again, hash[17], hash_again[17];
    uint32_t n_ranks = ag_plan_ranks(plan);
    ag_json_t *json;
    ag_plan_t *back;
    ag_place_t place;

    expect(ag_json_parse(text, strlen(text), "plan", &json) == AG_OK);
    expect(ag_plan_from_json(json, "plan", &back) == AG_OK);
    ag_json_destroy(json);
    again = text_of(back);
    expect(strcmp(text, again) == 0);
    expect(ag_plan_hash(plan, hash) == AG_OK && ag_plan_hash(back, hash_again) == AG_OK);
    expect(strcmp(hash, hash_again) == 0);
    for (uint32_t rank = 0; rank < n_ranks && rank < 64; rank++) {
        expect(ag_mesh_place(plan, rank, &place) == AG_OK);
    }
    expect(ag_plan_check_ranks(plan, opts, n_ranks + 1, &(ag_plan_trial_t){works, NULL}) ==
           AG_ERR_INVALID);
    expect_one_line();
    ag_plan_destroy(back);
    free(text);
    free(again);
}

static void try_file(const char *bytes, size_t n_bytes)
{
    ag_json_t *json;
    ag_plan_t *plan;

    if (ag_json_parse(bytes, n_bytes, "plan", &json) != AG_OK) {
        return;
    }
    if (ag_plan_from_json(json, "plan", &plan) == AG_OK) {
        use_plan(plan, NULL);
        ag_plan_destroy(plan);
    } else {
        expect_one_line();
    }
    ag_json_destroy(json);
}

/* The next line, NULL where it is empty or there is none. */
static const char *next_line(char **at_p)
{
    char *line = strsep(at_p, "\n");

    return line != NULL && *line != '\0' ? line : NULL;
}

static void try_options(const char *bytes, size_t n_bytes)
{
    char *text = malloc(n_bytes + 1), *at = text;
    ag_plan_opts_t opts = {0};
    ag_plan_t *plan;

    expect(text != NULL);
    memcpy(text, bytes, n_bytes);
    text[n_bytes] = '\0';
    opts.tp = next_line(&at);
    opts.tensor_split = next_line(&at);
    opts.pipeline_split = next_line(&at);
    opts.max_memory = next_line(&at);
    opts.pp = at != NULL ? (uint32_t)strtoul(at, NULL, 10) : 0;
    next_line(&at);
    opts.ep = next_line(&at);
    opts.expert_split = next_line(&at);
    if (ag_plan_make(opts.ep != NULL || opts.expert_split != NULL ? &of_experts : &model, &opts,
                     &plan) == AG_OK) {
        use_plan(plan, &opts);
        ag_plan_destroy(plan);
    } else {
        expect_one_line();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    try_file((const char *)bytes, n_bytes);
    try_options((const char *)bytes, n_bytes);
    return 0;
}
