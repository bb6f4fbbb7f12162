#define _GNU_SOURCE
#include "launch/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch/probe.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"

enum { CACHE_VERSION = 1 };

static void read_cpu_name(char *name, size_t n_bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(name, n_bytes, "unknown");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            snprintf(name, n_bytes, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    fclose(file);
}

/* The rates by their names in the file. */
typedef struct rate_row {
    const char *name;
    size_t offset;
} rate_row_t;

static const rate_row_t rate_rows[] = {
    {"read_bytes_per_s", offsetof(ag_limits_t, read_bytes_per_s)},
    {"f32_flops_per_s", offsetof(ag_limits_t, f32_flops_per_s)},
    {"bf16_flops_per_s", offsetof(ag_limits_t, bf16_flops_per_s)},
    {"int8_ops_per_s", offsetof(ag_limits_t, int8_ops_per_s)},
};

enum { N_RATES = sizeof(rate_rows) / sizeof(rate_rows[0]) };

static double *rates_of(ag_limits_t *limits, int i)
{
    return (double *)(void *)((char *)limits + rate_rows[i].offset);
}

/* True when the file is of this machine and this version, and whole. */
static bool read_cache(const char *path, ag_limits_t *limits)
{
    ag_limits_t found = *limits;
    ag_json_t *json;
    const char *cpu;
    bool good;

    if (ag_json_read(path, &json) != AG_OK) {
        return false;
    }
    cpu = ag_json_string(ag_json_get(json, "cpu"), NULL);
    good = ag_json_integer(ag_json_get(json, "version"), 0) == CACHE_VERSION && cpu != NULL &&
           strcmp(cpu, limits->cpu) == 0 &&
           ag_json_integer(ag_json_get(json, "cores"), 0) == limits->n_cores;
    for (int i = 0; i < N_RATES; i++) {
        for (int at = 0; at < 2; at++) {
            rates_of(&found, i)[at] =
                ag_json_number(ag_json_at(ag_json_get(json, rate_rows[i].name), (size_t)at), -1);
            good &= rates_of(&found, i)[at] >= 0;
        }
    }
    for (int at = 0; at < 2; at++) {
        int64_t bytes = ag_json_integer(
            ag_json_at(ag_json_get(json, "process_bytes"), (size_t)at), 0);

        found.process_bytes[at] = (uint64_t)bytes;
        good &= bytes > 0;
    }
    good &= found.read_bytes_per_s[0] > 0 && found.read_bytes_per_s[1] > 0;
    ag_json_destroy(json);
    if (good) {
        *limits = found;
    }
    return good;
}

static char *cache_text(ag_limits_t *limits)
{
    ag_json_t *json = ag_json_new_object(), *process = ag_json_new_array();
    char *text = NULL;

    ag_json_set(json, "version", ag_json_new_integer(CACHE_VERSION));
    ag_json_set(json, "cpu", ag_json_new_string(limits->cpu, strlen(limits->cpu)));
    ag_json_set(json, "cores", ag_json_new_integer(limits->n_cores));
    for (int i = 0; i < N_RATES; i++) {
        ag_json_t *pair = ag_json_new_array();

        ag_json_append(pair, ag_json_new_real(rates_of(limits, i)[0]));
        ag_json_append(pair, ag_json_new_real(rates_of(limits, i)[1]));
        ag_json_set(json, rate_rows[i].name, pair);
    }
    ag_json_append(process, ag_json_new_integer((int64_t)limits->process_bytes[0]));
    ag_json_append(process, ag_json_new_integer((int64_t)limits->process_bytes[1]));
    ag_json_set(json, "process_bytes", process);
    if (ag_json_text(json, AG_JSON_INDENTED, &text) != AG_OK) {
        text = NULL;
    }
    ag_json_destroy(json);
    return text;
}

static void make_folder_of(const char *path)
{
    char folder[4096];

    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
        mkdir(folder, 0777);
    }
}

/* Complete or absent: written aside, then renamed. */
static void write_cache(const char *path, ag_limits_t *limits)
{
    char *text = cache_text(limits);
    char aside[4200];
    FILE *file;
    bool good = false;

    make_folder_of(path);
    snprintf(aside, sizeof(aside), "%s.%d", path, (int)getpid());
    file = text != NULL ? fopen(aside, "w") : NULL;
    if (file != NULL) {
        good = fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
        good = fclose(file) == 0 && good && rename(aside, path) == 0;
        if (!good) {
            unlink(aside);
        }
    }
    if (!good) {
        ag_log(AG_LOG_WARNING, "the machine's limits cannot be kept in %s (%s): they will be "
                               "measured again next time",
               path, strerror(errno));
    }
    free(text);
}

/* A copy of this program that does no more than start, and prints what that took. */
static ag_status_t measure_process(const char *program, bool with_mpi, uint64_t *bytes_p)
{
    char command[4300];
    FILE *pipe;
    bool good;

    /* a rank's child must not take itself for that rank */
    snprintf(command, sizeof(command),
             "for v in $(env | sed -n 's/^\\(OMPI_[A-Za-z_0-9]*\\|PMIX_[A-Za-z_0-9]*\\|ORTE_[A-Za-z_0-9]*\\)=.*/\\1/p'); do "
             "case $v in OMPI_ALLOW_*) ;; *) unset $v;; esac; done; '%s' measure-process%s 2>/dev/null",
             program, with_mpi ? " --with-mpi" : "");
    pipe = popen(command, "r");
    if (pipe == NULL) {
        return ag_fail(AG_ERR_IO, "starting %s to measure its memory: %s", program,
                       strerror(errno));
    }
    good = fscanf(pipe, "%lu", bytes_p) == 1;
    good = pclose(pipe) == 0 && good && *bytes_p > 0;
    return good ? AG_OK
                : ag_fail(AG_ERR_IO, "%s does not tell how much memory it takes%s", program,
                          with_mpi ? " under MPI" : "");
}

ag_status_t ag_limits_get(const ag_limits_opts_t *opts, ag_limits_t *limits)
{
    ag_status_t status;

    *limits = (ag_limits_t){.n_cores = opts->n_cores};
    read_cpu_name(limits->cpu, sizeof(limits->cpu));
    if (opts->cache_path != NULL && !opts->renew && read_cache(opts->cache_path, limits)) {
        return AG_OK;
    }
    status = measure_process(opts->program_path, false, &limits->process_bytes[0]);
    if (status == AG_OK && measure_process(opts->program_path, true, &limits->process_bytes[1]) != AG_OK) {
        limits->process_bytes[1] = limits->process_bytes[0]; /* no MPI to be started here */
    }
    if (status == AG_OK) {
        status = ag_probe_rates(opts->n_cores, limits);
    }
    if (status == AG_OK && opts->cache_path != NULL) {
        write_cache(opts->cache_path, limits);
    }
    return status;
}

double ag_limits_at(const double rate[2], uint32_t n_cores, uint32_t n_threads)
{
    if (n_threads >= n_cores || n_cores <= 1) {
        return rate[1];
    }
    return rate[0] + (rate[1] - rate[0]) * (n_threads - 1) / (n_cores - 1);
}
