#define _GNU_SOURCE
#include "launch/host.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number in a file that holds one; false where it holds none ("max") or is not there. */
static bool read_number(const char *path, uint64_t *number_p)
{
    FILE *file = fopen(path, "r");
    bool found;

    if (file == NULL) {
        return false;
    }
    found = fscanf(file, "%lu", number_p) == 1;
    fclose(file);
    return found;
}

/* "VmHWM:  123 kB" and the like */
static uint64_t read_field(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    uint64_t n_kib = 0;
    char line[256];

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            sscanf(line + strlen(name), ": %lu", &n_kib);
        }
    }
    fclose(file);
    return n_kib * 1024;
}

uint64_t ag_process_peak_bytes(void)
{
    return read_field("/proc/self/status", "VmHWM");
}

/* The path of this process in a cgroup hierarchy: version 2's, or that of a version 1 controller. */
static bool cgroup_path(const char *controller, char *path, size_t n_bytes)
{
    FILE *file = fopen("/proc/self/cgroup", "r");
    bool found = false;
    char line[512];

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        char *names = strchr(line, ':'), *at = names != NULL ? strchr(names + 1, ':') : NULL;

        if (at == NULL) {
            continue;
        }
        *at = '\0';
        at[1 + strcspn(at + 1, "\n")] = '\0';
        found = strcmp(names + 1, controller) == 0;
        if (found) {
            snprintf(path, n_bytes, "%s", at + 1);
        }
    }
    fclose(file);
    return found;
}

/* What limit_file less usage_file leaves, at this process's place and at the top of the hierarchy. */
static uint64_t cgroup_leaves(const char *root, const char *controller, const char *limit_file,
                              const char *usage_file, uint64_t least)
{
    char place[512] = "", path[1024];

    if (!cgroup_path(controller, place, sizeof(place))) {
        return least;
    }
    for (int i = 0; i < 2; i++) {
        uint64_t limit, usage;

        snprintf(path, sizeof(path), "%s%s/%s", root, i == 0 ? place : "", limit_file);
        if (!read_number(path, &limit)) {
            continue;
        }
        snprintf(path, sizeof(path), "%s%s/%s", root, i == 0 ? place : "", usage_file);
        if (read_number(path, &usage) && limit > usage && limit - usage < least) {
            least = limit - usage;
        }
    }
    return least;
}

static uint64_t available_bytes(void)
{
    uint64_t least = read_field("/proc/meminfo", "MemAvailable");

    least = cgroup_leaves("/sys/fs/cgroup", "", "memory.max", "memory.current", least);
    return cgroup_leaves("/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes",
                         "memory.usage_in_bytes", least);
}

/* Whole cores that a quota leaves of n. */
static uint32_t within_quota(uint32_t n)
{
    char place[512] = "", path[1024];
    uint64_t quota, period;

    if (cgroup_path("", place, sizeof(place))) {
        FILE *file;

        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", place);
        file = fopen(path, "r");
        if (file != NULL) {
            if (fscanf(file, "%lu %lu", &quota, &period) == 2 && period > 0 &&
                (quota + period - 1) / period < n) {
                n = (uint32_t)((quota + period - 1) / period);
            }
            fclose(file);
        }
    }
    if (cgroup_path("cpu,cpuacct", place, sizeof(place)) || cgroup_path("cpu", place, sizeof(place))) {
        snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", place);
        if (read_number(path, &quota) && (int64_t)quota > 0) {
            snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", place);
            if (read_number(path, &period) && period > 0 && (quota + period - 1) / period < n) {
                n = (uint32_t)((quota + period - 1) / period);
            }
        }
    }
    return n > 0 ? n : 1;
}

static uint32_t environment_number(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

/* mpirun binds one or two ranks to a core each unless told otherwise; what it was told is set here. */
static bool binding_is_default(void)
{
    return getenv("OMPI_MCA_orte_bound_at_launch") != NULL &&
           getenv("OMPI_MCA_hwloc_base_binding_policy") == NULL;
}

ag_status_t ag_host_init(ag_host_t *host)
{
    cpu_set_t cores;
    long n_configured = sysconf(_SC_NPROCESSORS_CONF);

    *host = (ag_host_t){.under_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL,
                        .local_rank = environment_number("OMPI_COMM_WORLD_LOCAL_RANK", 0),
                        .n_local = environment_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1)};
    if (host->under_mpirun && binding_is_default()) {
        CPU_ZERO(&cores);
        for (long i = 0; i < n_configured && i < CPU_SETSIZE; i++) {
            CPU_SET((size_t)i, &cores);
        }
        sched_setaffinity(0, sizeof(cores), &cores); /* the kernel keeps it within the cpuset */
    }
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof(cores), &cores) != 0) {
        return ag_fail(AG_ERR_IO, "the system does not say which cores this process may use");
    }
    host->n_cores = within_quota((uint32_t)CPU_COUNT(&cores));
    host->available_bytes = available_bytes();
    return AG_OK;
}

uint32_t ag_host_threads(const ag_host_t *host)
{
    uint32_t share = host->n_cores / host->n_local;

    /* ranks that were bound on purpose have cores of their own */
    if (host->under_mpirun && getenv("OMPI_MCA_orte_bound_at_launch") != NULL &&
        !binding_is_default()) {
        return host->n_cores;
    }
    share += host->local_rank < host->n_cores % host->n_local;
    return share > 0 ? share : 1;
}
