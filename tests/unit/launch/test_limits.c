#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "launch/limits.h"
#include "make_files.h"
#include "runtime/base/log.h"

/* A program that answers as argosy's hidden commands do, and notes that it was asked. */
static const char ANSWERS[] =
    "#!/bin/sh\n"
    "echo \"$* ${OMPI_COMM_WORLD_RANK-alone}\" >> \"$0.log\"\n"
    "case \"$*\" in\n"
    "measure-process) echo 1000;;\n"
    "'measure-process --with-mpi') echo 3000;;\n"
    "'measure-rates --threads 4') printf '10\\n35\\n4\\n14\\n100\\n390\\n0\\n0\\n"
    "300\\n1100\\n';;\n"
    "*) exit 1;;\n"
    "esac\n";

typedef struct machine {
    const char *folder;
    char program[512], log[520], cache[512];
    ag_limits_opts_t opts;
} machine_t;

static void set_program(machine_t *machine, const char *text)
{
    make_file(machine->folder, "argosy", text);
    cr_assert_eq(chmod(machine->program, 0755), 0);
}

static void make_machine(machine_t *machine, const char *program_text)
{
    *machine = (machine_t){.folder = make_folder()};
    snprintf(machine->program, sizeof(machine->program), "%s/argosy", machine->folder);
    snprintf(machine->log, sizeof(machine->log), "%s.log", machine->program);
    snprintf(machine->cache, sizeof(machine->cache), "%s/a/b/limits.json", machine->folder);
    set_program(machine, program_text);
    machine->opts = (ag_limits_opts_t){
        .cache_path = machine->cache, .program_path = machine->program, .n_cores = 4};
}

/* How often the program was run, as lines of its log. */
static int n_runs(const machine_t *machine)
{
    FILE *file = fopen(machine->log, "r");
    char line[256];
    int n = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        n++;
    }
    if (file != NULL) {
        fclose(file);
    }
    return n;
}

static void expect_rates(const ag_limits_t *limits)
{
    cr_expect_eq(limits->read_bytes_per_s[0], 10);
    cr_expect_eq(limits->read_bytes_per_s[1], 35);
    cr_expect_eq(limits->copy_bytes_per_s[0], 4);
    cr_expect_eq(limits->copy_bytes_per_s[1], 14);
    cr_expect_eq(limits->f32_flops_per_s[0], 100);
    cr_expect_eq(limits->f32_flops_per_s[1], 390);
    cr_expect_eq(limits->bf16_flops_per_s[1], 0);
    cr_expect_eq(limits->int8_ops_per_s[1], 1100);
    cr_expect_eq(limits->process_bytes[0], 1000);
    cr_expect_eq(limits->process_bytes[1], 3000);
    cr_expect_eq(limits->n_cores, 4);
    cr_expect_gt(strlen(limits->cpu), 0);
}

Test(limits, are_measured_once_and_then_read)
{
    machine_t machine;
    ag_limits_t measured, read;

    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &measured), AG_OK);
    expect_rates(&measured);
    cr_expect_eq(n_runs(&machine), 3);
    cr_assert_eq(ag_limits_get(&machine.opts, &read), AG_OK);
    expect_rates(&read);
    cr_expect_str_eq(read.cpu, measured.cpu);
    cr_expect_eq(n_runs(&machine), 3);
}

Test(limits, nothing_but_the_file_is_left_beside_it)
{
    machine_t machine;
    ag_limits_t limits;
    struct dirent *entry;
    int n_files = 0;
    char path[512];
    DIR *folder;

    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    snprintf(path, sizeof(path), "%s/a/b", machine.folder);
    folder = opendir(path);
    cr_assert_not_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        n_files += entry->d_name[0] != '.';
    }
    closedir(folder);
    cr_expect_eq(n_files, 1);
}

Test(limits, are_measured_anew_when_that_is_asked_for)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    machine.opts.renew = true;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(n_runs(&machine), 4);
    machine.opts.forget = true;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(n_runs(&machine), 7);
}

/* Replace a part of the kept file and look again. */
static void expect_measured_over(const char *part, const char *by)
{
    machine_t machine;
    ag_limits_t limits;
    char text[4096] = "", changed[4096], *at;
    FILE *file;

    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    file = fopen(machine.cache, "r");
    cr_assert_not_null(file);
    cr_assert_gt(fread(text, 1, sizeof(text) - 1, file), 0);
    fclose(file);
    at = strstr(text, part);
    cr_assert_not_null(at, "%s is in %s", part, text);
    snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, by, at + strlen(part));
    make_file(machine.folder, "a/b/limits.json", changed);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    expect_rates(&limits);
    cr_expect_eq(n_runs(&machine), 6, "%s for %s", by, part);
}

Test(limits, a_damaged_file_is_measured_over)
{
    expect_measured_over("]", "");
}

Test(limits, a_file_of_another_machine_is_measured_over)
{
    expect_measured_over("\"cpu\": \"", "\"cpu\": \"another ");
}

Test(limits, a_file_of_another_number_of_cores_is_measured_over)
{
    expect_measured_over("\"cores\": 4", "\"cores\": 8");
}

Test(limits, a_file_of_another_version_is_measured_over)
{
    expect_measured_over("\"version\": ", "\"version\": 7");
}

Test(limits, a_file_with_a_rate_of_nothing_is_measured_over)
{
    expect_measured_over("35", "0");
}

Test(limits, a_file_with_a_rate_missing_is_measured_over)
{
    expect_measured_over("int8_ops_per_s", "int9_ops_per_s");
}

Test(limits, a_file_of_another_build_is_measured_over)
{
    machine_t machine;
    ag_limits_t limits;
    char other[sizeof(ANSWERS) + 16];

    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    snprintf(other, sizeof(other), "%s# longer\n", ANSWERS);
    set_program(&machine, other);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(n_runs(&machine), 6);
}

static void count_warning(void *arg, ag_log_level_t level, const char *line)
{
    *(int *)arg += level == AG_LOG_WARNING && strstr(line, "limits.json") != NULL;
}

Test(limits, a_file_that_cannot_be_written_is_a_warning)
{
    machine_t machine;
    ag_limits_t limits;
    int n_warnings = 0;

    make_machine(&machine, ANSWERS);
    make_file(machine.folder, "a", "a file where a folder should be");
    ag_log_set_sink(count_warning, &n_warnings);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    expect_rates(&limits);
    cr_expect_eq(n_warnings, 1);
}

Test(limits, no_home_is_made_to_keep_them_in)
{
    machine_t machine;
    ag_limits_t limits;
    char home[512], path[560];
    int n_warnings = 0;

    make_machine(&machine, ANSWERS);
    snprintf(home, sizeof(home), "%s/nobody", machine.folder);
    snprintf(path, sizeof(path), "%s/.cache/argosy/limits.json", home);
    machine.opts.cache_path = path;
    ag_log_set_sink(count_warning, &n_warnings);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    expect_rates(&limits);
    cr_expect_eq(n_warnings, 1);
    cr_expect_neq(access(home, F_OK), 0, "%s was made", home);
    cr_assert_eq(mkdir(home, 0777), 0);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(access(path, F_OK), 0, "%s was not made", path);
}

Test(limits, without_a_path_they_are_not_kept)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, ANSWERS);
    machine.opts.cache_path = NULL;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    expect_rates(&limits);
    cr_expect_neq(access(machine.cache, F_OK), 0);
}

/* Rates of a machine that something disturbs, at another place each time it is asked. */
static const char DISTURBED[] =
    "#!/bin/sh\n"
    "echo \"$*\" >> \"$0.log\"\n"
    "case \"$1 $(wc -l < \"$0.log\")\" in\n"
    "measure-process*) echo 1000;;\n"
    "*3) printf '10\\n20\\n4\\n14\\n100\\n390\\n0\\n0\\n300\\n900\\n1\\n';;\n"
    "*) printf '8\\n35\\n4\\n14\\n90\\n300\\n0\\n0\\n300\\n1100\\n1\\n';;\n"
    "esac\n";

/* As if the file had been written so long ago. */
static void age_cache(const machine_t *machine, time_t seconds)
{
    time_t then = time(NULL) - seconds;
    struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};

    cr_assert_eq(utimensat(AT_FDCWD, machine->cache, times, 0), 0);
}

Test(limits, of_a_busy_machine_are_bettered_by_later_calls)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, DISTURBED);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(limits.n_disturbed, 1);
    cr_expect_eq(limits.read_bytes_per_s[1], 20);
    age_cache(&machine, 100);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(limits.n_disturbed, 2);
    cr_expect_eq(limits.read_bytes_per_s[0], 10);
    cr_expect_eq(limits.read_bytes_per_s[1], 35);
    cr_expect_eq(limits.f32_flops_per_s[1], 390);
    cr_expect_eq(limits.int8_ops_per_s[1], 1100);
    cr_expect_eq(limits.process_bytes[0], 1000);
}

/* A quiet first time, a busy second one, in which all cores were slower than one. */
static const char ONCE_QUIET[] =
    "#!/bin/sh\n"
    "echo \"$*\" >> \"$0.log\"\n"
    "case \"$1 $(wc -l < \"$0.log\")\" in\n"
    "measure-process*) echo 1000;;\n"
    "*3) printf '10\\n20\\n4\\n14\\n100\\n390\\n0\\n0\\n300\\n900\\n0\\n';;\n"
    "*) printf '30\\n15\\n4\\n13\\n90\\n300\\n0\\n0\\n200\\n800\\n1\\n';;\n"
    "esac\n";

/* Who measures anew has what was measured; the file has the better of both. */
Test(limits, that_were_better_stay_in_the_file_of_who_measures_anew)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, ONCE_QUIET);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    machine.opts.renew = true;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(limits.f32_flops_per_s[1], 300);
    cr_expect_eq(limits.int8_ops_per_s[1], 800);
    cr_expect_eq(limits.disturbed, 1, "the one just made was");
    machine.opts.renew = false;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(limits.read_bytes_per_s[0], 30);
    cr_expect_eq(limits.read_bytes_per_s[1], 30, "what one core reads, all can");
    cr_expect_eq(limits.f32_flops_per_s[1], 390);
    cr_expect_eq(limits.int8_ops_per_s[1], 900);
    cr_expect_eq(limits.n_disturbed, 0, "one measurement was not disturbed");
    machine.opts.forget = true;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(limits.f32_flops_per_s[1], 300, "as if there were no file");
    cr_expect_eq(limits.n_disturbed, 1);
}

Test(limits, a_file_in_which_all_cores_do_less_than_one_is_measured_over)
{
    expect_measured_over("35", "9");
}

Test(limits, of_a_busy_machine_are_not_measured_again_at_once)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, DISTURBED);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    cr_expect_eq(n_runs(&machine), 3);
}

Test(limits, of_a_machine_that_is_always_busy_are_taken_at_last)
{
    machine_t machine;
    ag_limits_t limits;

    make_machine(&machine, DISTURBED);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
        age_cache(&machine, 100);
    }
    cr_expect_eq(n_runs(&machine), 2 + 4);
}

Test(limits, the_measuring_process_does_not_take_itself_for_a_rank)
{
    machine_t machine;
    ag_limits_t limits;
    char line[256];
    FILE *file;

    setenv("OMPI_COMM_WORLD_RANK", "1", 1);
    make_machine(&machine, ANSWERS);
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    file = fopen(machine.log, "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        cr_expect_not_null(strstr(line, "alone"), "%s", line);
    }
    fclose(file);
}

/* Notes the cores that it may use. */
static const char CORES[] = "#!/bin/sh\n"
                            "case \"$1\" in\n"
                            "measure-process) echo 1000;;\n"
                            "*) grep Cpus_allowed_list /proc/self/status >> \"$0.log\"\n"
                            "printf '10\\n35\\n4\\n14\\n100\\n390\\n0\\n0\\n300\\n1100\\n';;\n"
                            "esac\n";

Test(limits, are_measured_on_the_cores_that_are_named_and_no_others)
{
    machine_t machine;
    ag_limits_t limits;
    ag_cores_t one = {{0}};
    cpu_set_t before, after;
    char line[256] = "", wanted[64];
    unsigned core = 0;
    FILE *file;

    make_machine(&machine, CORES);
    cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    while (!CPU_ISSET(core, &before)) {
        core++;
    }
    one.bits[core / 64] = (uint64_t)1 << core % 64;
    machine.opts.cores = &one;
    cr_assert_eq(ag_limits_get(&machine.opts, &limits), AG_OK);
    file = fopen(machine.log, "r");
    cr_assert_not_null(file);
    cr_assert_not_null(fgets(line, sizeof(line), file));
    fclose(file);
    snprintf(wanted, sizeof(wanted), "Cpus_allowed_list:\t%u\n", core);
    cr_expect_str_eq(line, wanted);
    cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
    cr_expect(CPU_EQUAL(&before, &after), "this thread's cores are its own again");
}

Test(limits, a_program_that_cannot_measure_is_named)
{
    static const char *const programs[] = {
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\necho nothing\n",
        "#!/bin/sh\ncase \"$1\" in measure-process) echo 1000;; *) echo 5;; esac\n",
    };

    for (int i = 0; i < 3; i++) {
        machine_t machine;
        ag_limits_t limits;

        make_machine(&machine, programs[i]);
        cr_expect_eq(ag_limits_get(&machine.opts, &limits), AG_ERR_IO);
        cr_expect_not_null(strstr(ag_error(), machine.program), "%s", ag_error());
        machine.opts.program_path = "/nonexistent/argosy";
        cr_expect_eq(ag_limits_get(&machine.opts, &limits), AG_ERR_IO);
    }
}

Test(limits, some_threads_have_so_many_times_one_at_most_all)
{
    double rate[2] = {10, 35};

    cr_expect_eq(ag_limits_at(rate, 8, 1), 10);
    cr_expect_eq(ag_limits_at(rate, 8, 3), 30);
    cr_expect_eq(ag_limits_at(rate, 8, 4), 35);
    cr_expect_eq(ag_limits_at(rate, 8, 8), 35);
    cr_expect_eq(ag_limits_at(rate, 8, 64), 35);
    cr_expect_eq(ag_limits_at(rate, 1, 1), 35);
}
