#define _GNU_SOURCE
#include "launch/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launch/cores.h"
#include "launch/probe.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"

enum { CACHE_VERSION = 5, MOST_DISTURBED = 4, RETRY_SECONDS = 60 };

static void read_cpu_name(char *name, size_t n_bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(name, n_bytes, "unknown");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *value = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            value += 1 + strspn(value + 1, " \t");
            snprintf(name, n_bytes, "%.*s", (int)strcspn(value, "\n"), value);
            break;
        }
    }
    fclose(file);
}

/* What tells one build of the program from another: its base and its kernels are its own. */
static void read_build(const char *program_path, char *build, size_t n_bytes)
{
    struct stat info = {0};

    stat(program_path, &info);
    snprintf(build, n_bytes, "%lld bytes of %lld.%09ld", (long long)info.st_size,
             (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

/* The rates by their names in the file. */
typedef struct rate_row {
    const char *name;
    size_t offset;
} rate_row_t;

static const rate_row_t rate_rows[] = {
    {"read_bytes_per_s", offsetof(ag_limits_t, read_bytes_per_s)},
    {"copy_bytes_per_s", offsetof(ag_limits_t, copy_bytes_per_s)},
    {"f32_flops_per_s", offsetof(ag_limits_t, f32_flops_per_s)},
    {"bf16_flops_per_s", offsetof(ag_limits_t, bf16_flops_per_s)},
    {"int8_ops_per_s", offsetof(ag_limits_t, int8_ops_per_s)},
};

enum { N_RATES = sizeof(rate_rows) / sizeof(rate_rows[0]) };

static double *rates_of(ag_limits_t *limits, int i)
{
    return (double *)(void *)((char *)limits + rate_rows[i].offset);
}

static bool is_string(const ag_json_t *json, const char *text)
{
    const char *found = ag_json_string(json, NULL);

    return found != NULL && strcmp(found, text) == 0;
}

static bool are_sensible(ag_limits_t *limits)
{
    bool good = limits->process_bytes[0] > 0 && limits->process_bytes[1] > 0;

    for (int i = 0; i < 2; i++) {
        good &= limits->read_bytes_per_s[i] > 0 && limits->copy_bytes_per_s[i] > 0 &&
                limits->f32_flops_per_s[i] > 0 && limits->bf16_flops_per_s[i] >= 0 &&
                limits->int8_ops_per_s[i] >= 0;
    }
    for (int i = 0; i < N_RATES; i++) { /* what one can do, all can */
        good &= rates_of(limits, i)[1] >= rates_of(limits, i)[0];
    }
    return good;
}

/* True when the file is of this machine and this program, and whole. */
static bool read_cache(const char *path, const char *build, ag_limits_t *limits)
{
    ag_limits_t found = *limits;
    ag_json_t *json, *process;
    bool good;

    if (ag_json_read(path, &json) != AG_OK) {
        return false;
    }
    good = ag_json_integer(ag_json_get(json, "version"), 0) == CACHE_VERSION &&
           is_string(ag_json_get(json, "cpu"), limits->cpu) &&
           is_string(ag_json_get(json, "build"), build) &&
           ag_json_integer(ag_json_get(json, "cores"), 0) == limits->n_cores;
    process = ag_json_get(json, "process_bytes");
    for (size_t at = 0; at < 2; at++) {
        int64_t bytes = ag_json_integer(ag_json_at(process, at), 0);

        for (int i = 0; i < N_RATES; i++) {
            rates_of(&found, i)[at] =
                ag_json_number(ag_json_at(ag_json_get(json, rate_rows[i].name), at), -1);
        }
        found.process_bytes[at] = bytes > 0 ? (uint64_t)bytes : 0;
    }
    found.n_disturbed = (uint32_t)ag_json_integer(ag_json_get(json, "disturbed"), MOST_DISTURBED);
    found.n_core_kinds = (uint32_t)ag_json_integer(ag_json_get(json, "core_kinds"), 0);
    ag_json_destroy(json);
    good = good && are_sensible(&found);
    if (good) {
        *limits = found;
    }
    return good;
}

static char *cache_text(const char *build, ag_limits_t *limits)
{
    ag_json_t *json = ag_json_new_object(), *process = ag_json_new_array();
    char *text = NULL;

    ag_json_set(json, "version", ag_json_new_integer(CACHE_VERSION));
    ag_json_set(json, "build", ag_json_new_string(build, strlen(build)));
    ag_json_set(json, "cpu", ag_json_new_string(limits->cpu, strlen(limits->cpu)));
    ag_json_set(json, "cores", ag_json_new_integer(limits->n_cores));
    ag_json_set(json, "core_kinds", ag_json_new_integer(limits->n_core_kinds));
    ag_json_set(json, "disturbed", ag_json_new_integer(limits->n_disturbed));
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

/* The file's folder and the one above it: a cache folder and ours in it. What is above those is
 * somebody's home, or its like, and not ours to make. */
static void make_folder_of(const char *path)
{
    char folder[4096];

    for (int levels = 2; levels > 0; levels--) {
        const char *end = path + strlen(path);

        for (int i = 0; i < levels && end != NULL; i++) {
            end = memrchr(path, '/', (size_t)(end - path));
        }
        if (end != NULL) {
            snprintf(folder, sizeof(folder), "%.*s", (int)(end - path), path);
            mkdir(folder, 0777);
        }
    }
}

/* Complete or absent: written aside, then renamed. */
static bool write_file(const char *path, const char *text)
{
    char aside[4200];
    FILE *file;
    bool good;

    snprintf(aside, sizeof(aside), "%s.%d", path, (int)getpid());
    file = fopen(aside, "w");
    if (file == NULL) {
        return false;
    }
    good = fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    good = fclose(file) == 0 && good && rename(aside, path) == 0;
    if (!good) {
        int error = errno; /* the one to be told of */

        unlink(aside);
        errno = error;
    }
    return good;
}

/* To measure again next time is a nuisance, no failure. */
static void write_cache(const char *path, const char *build, ag_limits_t *limits)
{
    char *text = cache_text(build, limits);

    make_folder_of(path);
    if (text == NULL || !write_file(path, text)) {
        ag_log(AG_LOG_WARNING,
               "the machine's limits cannot be kept in %s (%s): they will be measured again next "
               "time",
               path, text == NULL ? "out of memory" : strerror(errno));
    }
    free(text);
}

/* The environment less what mpirun sets: a rank's child must not take itself for that rank. */
static char **child_environment(void)
{
    size_t n = 0, kept = 0;
    char **mine;

    while (environ[n] != NULL) {
        n++;
    }
    mine = calloc(n + 1, sizeof(*mine));
    for (size_t i = 0; mine != NULL && i < n; i++) {
        bool theirs = strncmp(environ[i], "OMPI_", 5) == 0 ||
                      strncmp(environ[i], "PMIX_", 5) == 0 || strncmp(environ[i], "ORTE_", 5) == 0;

        if (!theirs || strncmp(environ[i], "OMPI_ALLOW_", 11) == 0) {
            mine[kept++] = environ[i];
        }
    }
    return mine;
}

/* Run this program with a hidden command; what it prints, up to n_bytes. False when it fails. */
static bool run_self(const char *program, const char *command, const char *option,
                     const char *value, char *text, size_t n_bytes)
{
    char *argv[] = {(char *)program, (char *)command, (char *)option, (char *)value, NULL};
    char **env = child_environment();
    posix_spawn_file_actions_t actions;
    int pipe_ends[2], exit_status = -1;
    size_t n_read = 0;
    ssize_t n;
    pid_t child;

    if (env == NULL || pipe2(pipe_ends, O_CLOEXEC) != 0) {
        free(env);
        return false;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (posix_spawn(&child, program, &actions, NULL, argv, env) != 0) {
        child = -1;
    }
    close(pipe_ends[1]);
    while (child > 0 && n_read + 1 < n_bytes &&
           (n = read(pipe_ends[0], text + n_read, n_bytes - 1 - n_read)) > 0) {
        n_read += (size_t)n;
    }
    text[n_read] = '\0';
    close(pipe_ends[0]); /* read early by a signal: the child's next line ends it */
    posix_spawn_file_actions_destroy(&actions);
    free(env);
    while (child > 0 && waitpid(child, &exit_status, 0) != child) {
        if (errno != EINTR) {
            return false;
        }
    }
    return child > 0 && exit_status == 0;
}

static ag_status_t measure_process(const char *program, bool with_mpi, uint64_t *bytes_p)
{
    char text[64];

    if (!run_self(program, "measure-process", with_mpi ? "--with-mpi" : NULL, NULL, text,
                  sizeof(text)) ||
        sscanf(text, "%" SCNu64, bytes_p) != 1) {
        return ag_fail(AG_ERR_IO, "%s does not tell how much memory it takes%s", program,
                       with_mpi ? " under MPI" : "");
    }
    return AG_OK;
}

/* In a child, whose memory is not this process's; it inherits this thread's cores. */
static ag_status_t measure_rates(const char *program, const ag_cores_t *cores, ag_limits_t *limits)
{
    char text[1024], threads[16], *at = text;
    ag_cores_t own = {0};
    bool answered;

    if (cores != NULL) {
        ag_cores_move(cores, &own);
    }
    snprintf(threads, sizeof(threads), "%u", limits->n_cores);
    answered = run_self(program, "measure-rates", "--threads", threads, text, sizeof(text));
    ag_cores_go_back(&own);
    if (!answered) {
        return ag_fail(AG_ERR_IO, "%s does not tell this machine's limits", program);
    }
    for (int i = 0; i < 2 * N_RATES; i++) {
        rates_of(limits, i / 2)[i % 2] = strtod(at, &at);
    }
    for (int i = 0; i < N_RATES; i++) { /* all cores were measured in a slower moment */
        double *rate = rates_of(limits, i);

        rate[1] = rate[1] > rate[0] || rate[1] <= 0 ? rate[1] : rate[0];
    }
    limits->n_disturbed = limits->disturbed = strtoul(at, &at, 10) > 0;
    limits->n_core_kinds = (uint32_t)strtoul(at, NULL, 10);
    return are_sensible(limits)
               ? AG_OK
               : ag_fail(AG_ERR_IO, "%s tells no sensible limits of this machine", program);
}

ag_status_t ag_limits_print(uint32_t n_cores)
{
    ag_limits_t limits = {.n_cores = n_cores};
    ag_status_t status = ag_probe_rates(n_cores, &limits);

    for (int i = 0; i < 2 * N_RATES && status == AG_OK; i++) {
        printf("%.17g\n", rates_of(&limits, i / 2)[i % 2]);
    }
    printf("%u\n%u\n", limits.n_disturbed, limits.n_core_kinds);
    return status;
}

void ag_limits_own_path(char *path, size_t n_bytes)
{
    ssize_t n = readlink("/proc/self/exe", path, n_bytes - 1);

    path[n > 0 ? n : 0] = '\0';
}

ag_status_t ag_limits_measure(const ag_cores_t *cores, uint32_t n_threads, ag_limits_t *limits)
{
    char program[4096];

    limits->n_cores = n_threads;
    ag_limits_own_path(program, sizeof(program));
    return measure_rates(program, cores, limits);
}

ag_json_t *ag_limits_to_json(const ag_limits_t *limits, uint32_t n_threads)
{
    ag_limits_t copy = *limits;
    ag_json_t *json = ag_json_new_object();

    for (int i = 0; i < N_RATES; i++) {
        ag_json_set(json, rate_rows[i].name,
                    ag_json_new_real(ag_limits_at(rates_of(&copy, i), copy.n_cores, n_threads)));
    }
    return json;
}

/* Whether what was kept is to be used as it is. */
static bool is_final(const char *path, const ag_limits_t *limits)
{
    struct stat info;

    return limits->n_disturbed == 0 || limits->n_disturbed >= MOST_DISTURBED ||
           (stat(path, &info) == 0 && time(NULL) - info.st_mtim.tv_sec < RETRY_SECONDS);
}

void ag_limits_merge(const ag_limits_t *before, ag_limits_t *limits)
{
    ag_limits_t other = *before;

    for (int i = 0; i < 2 * N_RATES; i++) {
        double *rate = &rates_of(&other, i / 2)[i % 2];
        double *kept = &rates_of(limits, i / 2)[i % 2];

        *kept = *rate > *kept ? *rate : *kept;
    }
    limits->n_disturbed = limits->n_disturbed > 0 && before->n_disturbed > 0
                              ? before->n_disturbed + limits->n_disturbed
                              : 0;
}

static ag_status_t measure_processes(const char *program, ag_limits_t *limits)
{
    ag_status_t status = measure_process(program, false, &limits->process_bytes[0]);

    if (status == AG_OK && measure_process(program, true, &limits->process_bytes[1]) != AG_OK) {
        limits->process_bytes[1] = limits->process_bytes[0]; /* no MPI to be started here */
    }
    return status;
}

ag_status_t ag_limits_get(const ag_limits_opts_t *opts, ag_limits_t *limits)
{
    ag_status_t status = AG_OK;
    ag_limits_t before, kept;
    bool is_kept;
    char build[96];

    *limits = (ag_limits_t){.n_cores = opts->n_cores};
    read_cpu_name(limits->cpu, sizeof(limits->cpu));
    read_build(opts->program_path, build, sizeof(build));
    is_kept =
        opts->cache_path != NULL && !opts->forget && read_cache(opts->cache_path, build, limits);
    if (is_kept && !opts->renew && is_final(opts->cache_path, limits)) {
        return AG_OK;
    }
    before = *limits;
    if (!is_kept) {
        status = measure_processes(opts->program_path, limits);
    }
    if (status == AG_OK) {
        status = measure_rates(opts->program_path, opts->cores, limits);
    }
    if (status != AG_OK) {
        return status;
    }
    kept = *limits;
    if (is_kept) {
        ag_limits_merge(&before, &kept);
    }
    if (opts->cache_path != NULL) {
        write_cache(opts->cache_path, build, &kept);
    }
    if (!opts->renew) {
        *limits = kept;
    }
    return AG_OK;
}

double ag_limits_at(const double rate[2], uint32_t n_cores, uint32_t n_threads)
{
    double alone = rate[0] * n_threads;

    return n_threads < n_cores && alone < rate[1] ? alone : rate[1];
}
