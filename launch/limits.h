/* What this machine can do at most: measured once, kept in a file. */
#pragma once

#include "launch/host.h"
#include "runtime/base/json.h"
#include "runtime/base/team.h"

/* Plain data: ranks send it to each other. Index 0: one thread; 1: all cores. */
typedef struct ag_limits {
    char cpu[96];
    uint32_t n_cores;
    uint32_t n_disturbed;  /* measurements in a row that something else on the machine disturbed;
                              0: one was not */
    uint32_t disturbed;    /* 1: the last one was */
    uint32_t n_core_kinds; /* such as fast and frugal ones; 0: not known, taken as 1 */
    double read_bytes_per_s[2];
    double copy_bytes_per_s[2]; /* bytes read, as many are written */
    double f32_flops_per_s[2];
    double bf16_flops_per_s[2]; /* 0: no fast bfloat16 here */
    double int8_ops_per_s[2];
    uint64_t process_bytes[2]; /* peak of a process of ours before it takes anything: without, with
                                  MPI */
} ag_limits_t;

typedef struct ag_limits_opts {
    const char *cache_path;   /* NULL: not kept */
    const char *program_path; /* of argosy itself, whose hidden commands measure */
    uint32_t n_cores;
    const ag_cores_t *cores; /* to measure on, and no others; NULL: this thread's own */
    bool renew;              /* measure although there is a file: the better rates hold */
    bool forget;             /* measure as if there were no file */
} ag_limits_opts_t;

/**
 * From the file, or by measuring (2 s) in processes of their own, which a job's peak of memory does
 * not show. One rank of a host calls it, while the others rest. A file that is damaged, or of
 * another machine, number of cores or build of the program, is measured over; a file that cannot be
 * written is a warning.
 * @return AG_OK; AG_ERR_IO: the program cannot be started or does not answer.
 */
ag_status_t ag_limits_get(const ag_limits_opts_t *opts, ag_limits_t *limits);

/** A disturbance only ever takes away: of two measurements of one machine the better rates hold. */
void ag_limits_merge(const ag_limits_t *before, ag_limits_t *limits);

/** Where this very program lies: a program_path. */
void ag_limits_own_path(char *path, size_t n_bytes);

/** Rates of one thread and of so many, measured anew in a process of its own; all else stays. */
ag_status_t ag_limits_measure(const ag_cores_t *cores, uint32_t n_threads, ag_limits_t *limits);

/** The rates of some threads, by the names of ag_limits_t's fields. */
ag_json_t *ag_limits_to_json(const ag_limits_t *limits, uint32_t n_threads);

/** Measure, and print the rates for ag_limits_get() in another process to read. */
ag_status_t ag_limits_print(uint32_t n_cores);

/** The rate of some threads: so many times one's, at most that of all cores. */
double ag_limits_at(const double rate[2], uint32_t n_cores, uint32_t n_threads);
