/* argosy convert: a model's files into others. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/command.h"
#include "launch/export.h"
#include "runtime/base/clock.h"

static bool is_gguf(const ag_options_t *options)
{
    return strcmp(options->to, "gguf") == 0;
}

/* What stands there stays: a folder may be there, if it is empty. */
static ag_status_t check_output(const ag_options_t *options)
{
    struct stat info;
    DIR *folder;
    int n = 0;

    if (stat(options->output, &info) != 0) {
        return errno == ENOENT ? AG_OK
                               : ag_fail(AG_ERR_IO, "%s: %s", options->output, strerror(errno));
    }
    if (is_gguf(options) || !S_ISDIR(info.st_mode)) {
        return ag_fail(AG_ERR_INVALID, "%s exists: give another path, or remove it",
                       options->output);
    }
    folder = opendir(options->output);
    if (folder == NULL) {
        return ag_fail(AG_ERR_IO, "listing %s: %s", options->output, strerror(errno));
    }
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n <= 2 ? AG_OK
                  : ag_fail(AG_ERR_INVALID, "the folder %s is not empty: give another path",
                            options->output);
}

typedef struct progress {
    bool is_watched; /* standard error is a terminal */
    int shown;       /* percent; -1: nothing yet */
    uint64_t bytes;
} progress_t;

/* One line that is written over, where somebody looks. */
static void show_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
    progress_t *progress = arg;
    int percent = (int)(100 * done_bytes / (all_bytes + 1));

    progress->bytes = all_bytes;
    if (progress->is_watched && percent > progress->shown) {
        progress->shown = percent;
        fprintf(stderr, "\r%3d%% of %.1f MiB", percent, (double)all_bytes / 1048576.0);
    }
}

/* Other programs ignore what they do not know, and would go on to compute something else. */
static void tell_of_window(const ag_options_t *options, const ag_model_t *model)
{
    uint32_t window = 0;

    for (uint32_t i = 0; i < model->spec->n_layer_kinds; i++) {
        window = window > 0 ? window : model->spec->layer_kinds[i].window_tokens;
    }
    if (is_gguf(options) && model->family->gguf_window_is_ours && window > 0 &&
        window < model->spec->context_tokens) {
        fprintf(stderr,
                "argosy: %s says that attention looks back at %u positions; other programs do not "
                "look for that in files of the architecture %s, and differ beyond it\n",
                options->output, window, model->family->gguf_arch);
    }
}

static ag_status_t print_plan(const ag_options_t *options, const ag_model_t *model,
                              const ag_export_opts_t *opts)
{
    ag_weight_source_t source = ag_model_source(model);
    ag_export_t *export;
    ag_export_facts_t facts;
    ag_status_t status = ag_export_create(model, &source, opts, &export);

    if (status != AG_OK) {
        return status;
    }
    facts = ag_export_facts(export);
    printf("%s: %s, %llu tensors, %.1f MiB, %s\n", options->output,
           opts->gguf ? "a GGUF file" : "a Hugging Face folder",
           (unsigned long long)facts.n_tensors, (double)facts.bytes / 1048576.0,
           opts->keeps_types ? "types as they are" : ag_dtype_info(opts->dtype)->name);
    if (facts.n_fallen_back > 0) {
        printf("%llu matrices, the first %s, become %s: their rows are no whole blocks of %s\n",
               (unsigned long long)facts.n_fallen_back, facts.fallen_name,
               ag_dtype_info(facts.fallen_to)->name,
               opts->keeps_types ? "their type" : ag_dtype_info(opts->dtype)->name);
    }
    ag_export_destroy(export);
    return ag_write_out("", 0);
}

static ag_status_t convert(const ag_options_t *options, const ag_model_t *model, uint32_t n_threads)
{
    ag_cancel_t cancel = {.is_asked = ag_session_is_cancelled};
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t begin_ns = ag_clock_now_ns(&clock);
    progress_t progress = {.is_watched = isatty(STDERR_FILENO), .shown = -1};
    ag_export_opts_t opts = {.gguf = is_gguf(options),
                             .keeps_types = !options->type_given,
                             .dtype = options->type,
                             .cancel = &cancel,
                             .progress = show_progress,
                             .progress_arg = &progress};
    ag_status_t status;

    tell_of_window(options, model);
    if (options->dry_run) {
        return print_plan(options, model, &opts);
    }
    status = ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &opts.team);
    if (status != AG_OK) {
        return status;
    }
    status = opts.gguf ? ag_export_gguf(model, NULL, &opts, options->output)
                       : ag_export_hf(model, NULL, &opts, options->output);
    ag_team_destroy(opts.team);
    if (progress.shown >= 0) {
        fputs("\r                          \r", stderr);
    }
    if (status == AG_OK) {
        fprintf(stderr, "wrote %s, %.1f MiB of weights, in %.1f s\n", options->output,
                (double)progress.bytes / 1048576.0,
                (double)(ag_clock_now_ns(&clock) - begin_ns) * 1e-9);
    }
    return status;
}

ag_status_t ag_command_convert(ag_session_t *session)
{
    const ag_options_t *options = session->options;
    ag_model_t *model;
    ag_status_t status = check_output(options);

    if (status == AG_OK) {
        status = ag_model_open(options->model, &model);
    }
    if (status == AG_OK) {
        ag_session_catch_signals();
        status = convert(options, model,
                         options->threads > 0 ? options->threads : ag_host_threads(&session->host));
        ag_model_close(model);
    }
    return status;
}
