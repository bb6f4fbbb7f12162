#include "launch/output.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/model/export.h"

/* Are they one file, by whatever names? */
static bool is_same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;

    return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

/* Is it a file, or one of a folder? A model's folder is read as it comes. */
static bool holds_file(const char *place, const char *path)
{
    DIR *folder = opendir(place);
    struct dirent *entry;
    bool found = false;

    if (folder == NULL) {
        return is_same_file(place, path);
    }
    while (!found && (entry = readdir(folder)) != NULL) {
        char name[4400];

        snprintf(name, sizeof(name), "%s/%s", place, entry->d_name);
        found = is_same_file(name, path);
    }
    closedir(folder);
    return found;
}

/* The folder that a file lies in. */
static void folder_of(const char *path, char *folder, size_t n_bytes)
{
    const char *slash = strrchr(path, '/');

    snprintf(folder, n_bytes, "%.*s/", slash != NULL ? (int)(slash - path) : 1,
             slash != NULL ? path : ".");
}

/* Would they be one file, although there may be none yet? */
static bool is_same_place(const char *a, const char *b)
{
    const char *slash_a = strrchr(a, '/'), *slash_b = strrchr(b, '/');
    char folder_a[4400], folder_b[4400];

    folder_of(a, folder_a, sizeof(folder_a));
    folder_of(b, folder_b, sizeof(folder_b));
    return is_same_file(a, b) ||
           (strcmp(slash_a != NULL ? slash_a + 1 : a, slash_b != NULL ? slash_b + 1 : b) == 0 &&
            is_same_file(folder_a, folder_b));
}

/* Is it what `argosy train` itself writes into the folder of --output? */
static bool is_of_training(const char *folder, const char *path)
{
    static const char *const own[] = {"metrics.jsonl", "eval.jsonl", "report.html", "checkpoints"};
    const char *slash = strrchr(path, '/'), *file = slash != NULL ? slash + 1 : path;
    bool is_named = ag_export_is_old(file);
    char name[4400];

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        is_named = is_named || strcmp(file, own[i]) == 0;
    }
    snprintf(name, sizeof(name), "%s/%s", folder, file);
    return is_named && (strcmp(name, path) == 0 || is_same_place(name, path));
}

static ag_status_t fail_overwrite(const char *name, const char *path, const char *what)
{
    return ag_fail(AG_ERR_INVALID, "%s %s would overwrite %s: give another path", name, path, what);
}

static ag_status_t check(const ag_options_t *options, const char *name, const char *path)
{
    const ag_paths_t *data[] = {&options->train.data, &options->train.eval_data};
    const struct {
        const char *path, *what;
    } inputs[] = {
        {options->model, "a file of the model"},
        {options->text, "what is evaluated"},
        {options->tokens, "what is evaluated or continued"},
        {options->prompt_file, "the prompt"},
        {options->prompts, "the prompts"},
        {options->plan_file, "the plan"},
    };

    for (size_t i = 0; path != NULL && i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        if (inputs[i].path != NULL && holds_file(inputs[i].path, path)) {
            return fail_overwrite(name, path, inputs[i].what);
        }
    }
    if (path != NULL && options->output != NULL && is_of_training(options->output, path)) {
        return fail_overwrite(name, path, "what goes into the folder of --output");
    }
    for (size_t i = 0; path != NULL && i < 2; i++) {
        for (size_t j = 0; j < data[i]->n_items; j++) {
            if (is_same_file(data[i]->items[j], path)) {
                return fail_overwrite(name, path, "the data");
            }
        }
    }
    return AG_OK;
}

ag_status_t ag_outputs_check(const ag_options_t *options)
{
    enum { N = 3 };
    const struct {
        const char *name, *path;
    } outputs[N] = {{"--logits", options->logits},
                    {"--trace", options->trace},
                    {"--save-grads", options->train.save_grads}};

    for (int i = 0; i < N; i++) {
        ag_status_t status = check(options, outputs[i].name, outputs[i].path);

        if (status != AG_OK) {
            return status;
        }
        for (int j = 0; j < i && outputs[i].path != NULL; j++) {
            if (outputs[j].path != NULL && is_same_place(outputs[j].path, outputs[i].path)) {
                return ag_fail(AG_ERR_INVALID, "%s %s and %s %s are one file: give two",
                               outputs[j].name, outputs[j].path, outputs[i].name, outputs[i].path);
            }
        }
    }
    return AG_OK;
}
