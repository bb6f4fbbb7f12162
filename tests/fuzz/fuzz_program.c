/*
 * Program text: whatever is read prints as text that reads back and prints the same, and the
 * checker says of it what it likes without harm.
 */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"

#include "parallel/program/check_priv.h"
#include "tests/support/program_text.h"

static void expect_same_again(const ag_program_t *program)
{
    char *text = program_text(program), *again;
    ag_program_t *back;

    expect(program_from_text(text, &back) == AG_OK);
    again = program_text(back);
    expect(strcmp(text, again) == 0);
    ag_program_destroy(back);
    free(text);
    free(again);
}

static void expect_told(ag_status_t status)
{
    expect(status == AG_OK || (status == AG_ERR_INVALID && ag_error()[0] != '\0'));
}

/* The parts of the checker that a program of no plan would not get to. */
static void check_parts(const ag_program_t *program)
{
    ag_status_t status = ag_check_groups(program);

    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        status = ag_check_form(program, r);
    }
    if (status != AG_OK) {
        return;
    }
    for (uint32_t r = 0; r < program->n_ranks; r++) {
        expect_told(ag_check_memory(program, r, true));
        expect_told(ag_check_memory(program, r, false));
    }
    expect_told(ag_check_rendezvous(program));
}

static void check_plans(const ag_program_t *program)
{
    static const ag_plan_opts_t opts[] = {
        {.tp = "1"}, {.tp = "2"}, {.pp = 2}, {.tp = "2,1"}, {.ep = "2"}};
    ag_plan_model_t model = {
        .spec_hash = "00112233aabbccdd", .family = "llama", .n_layers = 3, .context_tokens = 128};

    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        ag_plan_t *plan;

        model.n_experts = opts[i].ep != NULL ? 5 : 0;
        expect(ag_plan_make(&model, &opts[i], &plan) == AG_OK);
        expect_told(ag_program_check(program, plan, AG_CHECK_PLACED, "reading"));
        ag_plan_destroy(plan);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    const char *text = (const char *)bytes;
    ag_program_text_t reading = {.name = "text", .at = text, .end = text + n_bytes, .line = 1};
    ag_program_t *program;

    while (ag_program_parse(&reading, &program) == AG_OK) {
        expect_same_again(program);
        check_parts(program);
        check_plans(program);
        expect(ag_program_link(program) == AG_OK);
        expect_same_again(program);
        check_parts(program);
        ag_program_destroy(program);
    }
    for (const char *at = ag_error(); *at != '\0'; at++) {
        expect((unsigned char)*at >= ' ');
    }
    return 0;
}
