/* The folder of a run: metrics.jsonl and eval.jsonl, a line a step. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/train.h"
#include "runtime/file/aside.h"

static const char metrics_name[] = "metrics.jsonl", evals_name[] = "eval.jsonl";

static ag_status_t path_of(const ag_train_output_t *output, const char *name, char *path,
                           size_t n_bytes)
{
    int n = snprintf(path, n_bytes, "%s/%s", output->dir, name);

    return n >= 0 && (size_t)n < n_bytes
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "--output: the path is too long");
}

static bool is_there(const ag_train_output_t *output, const char *name)
{
    char path[4300];
    struct stat info;

    return path_of(output, name, path, sizeof(path)) == AG_OK && stat(path, &info) == 0;
}

static ag_status_t check_folder(const ag_options_t *options, ag_train_output_t *output)
{
    struct stat own, model;

    output->made = mkdir(output->dir, 0777) == 0;
    if (!output->made && errno != EEXIST) {
        return ag_fail(AG_ERR_IO, "making the folder %s: %s", output->dir, strerror(errno));
    }
    if (stat(output->dir, &own) != 0) {
        return ag_fail(AG_ERR_IO, "%s: %s", output->dir, strerror(errno));
    }
    if (!S_ISDIR(own.st_mode)) {
        return ag_fail(AG_ERR_INVALID, "--output %s is no folder: give another path", output->dir);
    }
    if (access(output->dir, W_OK | X_OK) != 0) {
        return ag_fail(AG_ERR_IO, "--output %s cannot be written to: %s", output->dir,
                       strerror(errno));
    }
    return stat(options->model, &model) == 0 && model.st_dev == own.st_dev &&
                   model.st_ino == own.st_ino
               ? ag_fail(AG_ERR_INVALID, "--output %s is the model's folder: give another path",
                         output->dir)
               : AG_OK;
}

ag_status_t ag_train_output_check(const ag_options_t *options, ag_train_output_t *output)
{
    ag_status_t status;

    *output = (ag_train_output_t){.dir = options->output};
    status = path_of(output, "checkpoints", output->checkpoints, sizeof(output->checkpoints));
    if (status == AG_OK) {
        status = check_folder(options, output);
    }
    if (status == AG_OK && !options->train.resume &&
        (is_there(output, metrics_name) || is_there(output, "config.json") ||
         is_there(output, "checkpoints"))) {
        status = ag_fail(AG_ERR_INVALID,
                         "%s has a model or a run in it: go on with --resume, or give another "
                         "--output",
                         output->dir);
    }
    return status;
}

/* The lines of steps that are done; a last one that was cut off is left out. */
static ag_status_t copy_lines(FILE *from, const char *path, uint64_t done_steps, ag_aside_t *aside)
{
    char *line = NULL;
    size_t n_bytes = 0;
    ssize_t n;
    ag_status_t status = AG_OK;

    while (status == AG_OK && (n = getline(&line, &n_bytes, from)) > 0) {
        ag_json_t *json = NULL;

        if (line[n - 1] == '\n' && ag_json_parse(line, (size_t)n, path, &json) == AG_OK &&
            (uint64_t)ag_json_integer(ag_json_get(json, "step"), INT64_MAX) <= done_steps) {
            status = ag_aside_write(aside, line, (size_t)n);
        }
        ag_json_destroy(json);
    }
    free(line);
    return status;
}

static ag_status_t cut_back(const char *path, uint64_t done_steps)
{
    FILE *from = fopen(path, "r");
    ag_aside_t *aside;
    ag_status_t status;

    if (from == NULL) {
        return errno == ENOENT ? AG_OK : ag_fail_open(path);
    }
    status = ag_aside_open(path, &aside);
    if (status == AG_OK) {
        status = copy_lines(from, path, done_steps, aside);
        if (status == AG_OK) {
            status = ag_aside_complete(aside);
        } else {
            ag_aside_discard(aside);
        }
    }
    fclose(from);
    return status;
}

static ag_status_t begin_file(const ag_train_output_t *output, const char *name,
                              uint64_t done_steps, FILE **file_p)
{
    char path[4300];
    ag_status_t status = path_of(output, name, path, sizeof(path));

    if (status == AG_OK) {
        status = cut_back(path, done_steps);
    }
    if (status != AG_OK) {
        return status;
    }
    *file_p = fopen(path, "a");
    return *file_p != NULL ? AG_OK : ag_fail_open(path);
}

ag_status_t ag_train_output_begin(ag_train_output_t *output, uint64_t done_steps, bool evaluates)
{
    ag_status_t status = begin_file(output, metrics_name, done_steps, &output->metrics);

    return status == AG_OK && evaluates ? begin_file(output, evals_name, done_steps, &output->evals)
                                        : status;
}

/* Releases json. */
static ag_status_t write_line(const ag_train_output_t *output, FILE *file, const char *name,
                              ag_json_t *json, bool on_stdout)
{
    char *text;
    ag_status_t status = ag_json_text(json, AG_JSON_LINE, &text);

    ag_json_destroy(json);
    if (status != AG_OK) {
        return status;
    }
    if (fprintf(file, "%s\n", text) < 0 || fflush(file) != 0) {
        status = ag_fail(AG_ERR_IO, "writing %s/%s: %s", output->dir, name, strerror(errno));
    }
    if (status == AG_OK && on_stdout) {
        status = ag_write_out(text, strlen(text));
        status = status == AG_OK ? ag_write_out("\n", 1) : status;
    }
    free(text);
    return status;
}

ag_status_t ag_train_output_step(ag_train_output_t *output, const ag_train_step_t *step, double mfu,
                                 bool on_stdout)
{
    ag_json_t *json = ag_json_new_object();
    double seconds = (double)step->ns * 1e-9;

    ag_json_set(json, "step", ag_json_new_integer((int64_t)step->step));
    ag_json_set(json, "loss", ag_json_new_real(step->loss));
    ag_json_set(json, "grad_norm", ag_json_new_real(step->grad_norm));
    ag_json_set(json, "lr", ag_json_new_real(step->lr));
    ag_json_set(json, "tokens", ag_json_new_integer((int64_t)step->n_targets));
    ag_json_set(json, "tokens_per_s", ag_json_new_real((double)step->n_targets / seconds));
    ag_json_set(json, "mfu", ag_json_new_real(mfu));
    ag_json_set(json, "memory_bytes", ag_json_new_integer((int64_t)step->peak_bytes));
    return write_line(output, output->metrics, metrics_name, json, on_stdout);
}

ag_status_t ag_train_output_eval(ag_train_output_t *output, uint64_t step, double loss,
                                 uint64_t n_targets)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "step", ag_json_new_integer((int64_t)step));
    ag_json_set(json, "loss", ag_json_new_real(loss));
    ag_json_set(json, "tokens", ag_json_new_integer((int64_t)n_targets));
    return write_line(output, output->evals, evals_name, json, false);
}

void ag_train_output_forget(const ag_train_output_t *output)
{
    if (output->made) {
        rmdir(output->checkpoints); /* both stay where there is something in them */
        rmdir(output->dir);
    }
}

ag_status_t ag_train_output_close(ag_train_output_t *output)
{
    bool closed = output->metrics == NULL || fclose(output->metrics) == 0;

    closed &= output->evals == NULL || fclose(output->evals) == 0;
    output->metrics = output->evals = NULL;
    return closed ? AG_OK : ag_fail(AG_ERR_IO, "writing into %s: %s", output->dir, strerror(errno));
}
