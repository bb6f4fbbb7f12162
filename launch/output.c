#include "launch/output.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

static ag_status_t check(const ag_options_t *options, const char *name, const char *path)
{
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
            return ag_fail(AG_ERR_INVALID, "%s %s would overwrite %s: give another path", name,
                           path, inputs[i].what);
        }
    }
    return AG_OK;
}

ag_status_t ag_outputs_check(const ag_options_t *options)
{
    ag_status_t status = check(options, "--logits", options->logits);

    if (status == AG_OK) {
        status = check(options, "--trace", options->trace);
    }
    if (status == AG_OK && options->logits != NULL && options->trace != NULL &&
        is_same_place(options->logits, options->trace)) {
        status = ag_fail(AG_ERR_INVALID, "--logits %s and --trace %s are one file: give two",
                         options->logits, options->trace);
    }
    return status;
}
