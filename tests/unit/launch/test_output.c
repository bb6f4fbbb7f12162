#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch/output.h"
#include "make_files.h"

typedef struct files {
    char model[512], weights[512], link[512], text[512], fresh[512];
} files_t;

static files_t make_files(void)
{
    const char *folder = make_folder();
    files_t files;

    snprintf(files.weights, sizeof(files.weights), "%s", make_file(folder, "model/weights", "w"));
    snprintf(files.text, sizeof(files.text), "%s", make_file(folder, "text", "t"));
    snprintf(files.model, sizeof(files.model), "%s/model", folder);
    snprintf(files.link, sizeof(files.link), "%s/link", folder);
    snprintf(files.fresh, sizeof(files.fresh), "%s/fresh", folder);
    cr_assert_eq(symlink(files.weights, files.link), 0);
    return files;
}

static void expect_refused(const ag_options_t *options, const char *word)
{
    cr_expect_eq(ag_outputs_check(options), AG_ERR_INVALID, "%s", word);
    cr_expect_not_null(strstr(ag_error(), word), "%s: %s", word, ag_error());
}

Test(output, what_is_read_is_not_written_over_by_whatever_name)
{
    files_t files = make_files();

    expect_refused(&(ag_options_t){.model = files.model, .trace = files.weights}, "--trace");
    expect_refused(&(ag_options_t){.model = files.model, .trace = files.link}, "overwrite");
    expect_refused(&(ag_options_t){.model = files.model, .logits = files.link}, "--logits");
    expect_refused(&(ag_options_t){.model = files.link, .trace = files.weights}, "the model");
    expect_refused(&(ag_options_t){.model = files.model, .text = files.text, .trace = files.text},
                   "evaluated");
    expect_refused(
        &(ag_options_t){.model = files.model, .plan_file = files.text, .trace = files.text},
        "plan");
    expect_refused(&(ag_options_t){.prompts = files.text, .trace = files.text}, "prompts");
    expect_refused(&(ag_options_t){.model = files.model, .train.save_grads = files.link},
                   "--save-grads");
}

Test(output, data_is_not_written_over)
{
    files_t files = make_files();
    ag_paths_t paths = {.items = {"elsewhere", files.text}, .n_items = 2};

    expect_refused(&(ag_options_t){.train.data = paths, .trace = files.text}, "the data");
    expect_refused(&(ag_options_t){.train = {.eval_data = paths, .save_grads = files.text}},
                   "--save-grads");
    expect_refused(&(ag_options_t){.trace = files.fresh, .train.save_grads = files.fresh},
                   "one file");
}

Test(output, a_fresh_file_or_one_that_is_not_read_may_be_written)
{
    files_t files = make_files();
    ag_options_t options = {.model = files.model, .trace = files.fresh};

    cr_expect_eq(ag_outputs_check(&options), AG_OK, "%s", ag_error());
    options.trace = files.text;
    cr_expect_eq(ag_outputs_check(&options), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_outputs_check(&(ag_options_t){.text = "words, no path"}), AG_OK);
}

Test(output, what_training_itself_writes_is_no_trace)
{
    static const char *const taken[] = {"metrics.jsonl", "report.html", "config.json",
                                        "model-00001-of-00002.safetensors"};
    files_t files = make_files();
    char path[600], around[600];

    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", files.model, taken[i]);
        snprintf(around, sizeof(around), "%s/../model/%s", files.model, taken[i]);
        expect_refused(&(ag_options_t){.output = files.model, .trace = path}, "--output");
        expect_refused(&(ag_options_t){.output = files.model, .train.save_grads = around},
                       "--save-grads");
    }
    snprintf(path, sizeof(path), "%s/trace.json", files.model);
    cr_expect_eq(ag_outputs_check(&(ag_options_t){.output = files.model, .trace = path}), AG_OK,
                 "%s", ag_error());
    expect_refused(&(ag_options_t){.output = "fresh", .trace = "fresh/metrics.jsonl"}, "--output");
}

Test(output, two_outputs_are_two_files)
{
    files_t files = make_files();
    char around[600];

    snprintf(around, sizeof(around), "%s/../fresh", files.model);
    expect_refused(&(ag_options_t){.logits = files.fresh, .trace = around}, "--logits");
    expect_refused(&(ag_options_t){.logits = "fresh", .trace = "./fresh"}, "one file");
    cr_expect_eq(ag_outputs_check(&(ag_options_t){.logits = files.fresh, .trace = "fresh"}), AG_OK);
}
