#define _GNU_SOURCE
#include "launch/host_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static_assert(sizeof(ag_cores_t) == sizeof(cpu_set_t), "the bits of all cores");

/* The first number in a file that holds some; false where it holds none ("max") or is not there. */
static bool read_number(const char *path, uint64_t *number_p)
{
    FILE *file = fopen(path, "r");
    bool found;

    if (file == NULL) {
        return false;
    }
    found = fscanf(file, "%" SCNu64, number_p) == 1;
    fclose(file);
    return found;
}

/* The number behind a name at the beginning of a line: "VmHWM:  123 kB", "inactive_file 4096". */
static bool read_field(const char *path, const char *name, uint64_t *number_p)
{
    FILE *file = fopen(path, "r");
    size_t n_chars = strlen(name);
    bool found = false;
    char line[256];

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = strncmp(line, name, n_chars) == 0 && (line[n_chars] == ':' || line[n_chars] == ' ');
        found = found && sscanf(line + n_chars + 1, "%" SCNu64, number_p) == 1;
    }
    fclose(file);
    return found;
}

uint64_t ag_process_peak_bytes(void)
{
    uint64_t kib = 0;

    read_field("/proc/self/status", "VmHWM", &kib);
    return kib * 1024;
}

/* Is word one of a list joined by commas? */
static bool has_word(const char *list, const char *word)
{
    size_t n_chars = strlen(word);

    for (; list != NULL; list = strchr(list, ','), list += list != NULL) {
        if (strncmp(list, word, n_chars) == 0 && (list[n_chars] == ',' || list[n_chars] == '\0')) {
            return true;
        }
    }
    return false;
}

/*
 * Where this process stands in a cgroup hierarchy: "" names version 2's, else a version 1
 * controller. /proc/self/cgroup has lines "4:memory:/a/b", "0::/a/b".
 */
static bool cgroup_place(const char *root, const char *controller, char place[PATH_BYTES])
{
    char path[PATH_BYTES], line[PATH_BYTES];
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        char *names = strchr(line, ':'), *at = names != NULL ? strchr(names + 1, ':') : NULL;

        if (at != NULL) {
            *at = '\0';
            at[1 + strcspn(at + 1, "\n")] = '\0';
            found = *controller == '\0' ? names[1] == '\0' : has_word(names + 1, controller);
            strcpy(place, at + 1); /* fits: it is a part of line */
        }
    }
    fclose(file);
    return found;
}

/* The parent of a place; false at the top, whose place is "". */
static bool ascend(char *place)
{
    char *slash = strrchr(place, '/');

    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* One version's names for the same figures. */
typedef struct cgroup_memory {
    const char *controller, *mount, *limit, *usage;
    const char *file_pages[2]; /* in memory.stat */
} cgroup_memory_t;

/* What one cgroup leaves; UINT64_MAX where it sets no limit. */
static uint64_t memory_left(const cgroup_memory_t *names, const char *folder)
{
    char path[3 * PATH_BYTES];
    uint64_t limit, usage, pages;

    snprintf(path, sizeof(path), "%s/%s", folder, names->limit);
    if (!read_number(path, &limit)) {
        return UINT64_MAX;
    }
    snprintf(path, sizeof(path), "%s/%s", folder, names->usage);
    if (!read_number(path, &usage)) {
        return limit;
    }
    snprintf(path, sizeof(path), "%s/memory.stat", folder);
    for (int i = 0; i < 2; i++) {
        if (read_field(path, names->file_pages[i], &pages)) {
            usage -= pages < usage ? pages : usage;
        }
    }
    return limit > usage ? limit - usage : 0;
}

uint64_t ag_host_available_bytes(const char *root)
{
    static const cgroup_memory_t versions[] = {
        {"", "/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file", "active_file"}},
        {"memory",
         "/sys/fs/cgroup/memory",
         "memory.limit_in_bytes",
         "memory.usage_in_bytes",
         {"total_inactive_file", "total_active_file"}},
    };
    char place[PATH_BYTES], folder[2 * PATH_BYTES];
    uint64_t least = UINT64_MAX, kib;

    snprintf(folder, sizeof(folder), "%s/proc/meminfo", root);
    if (read_field(folder, "MemAvailable", &kib)) {
        least = kib * 1024;
    }
    for (int version = 0; version < 2; version++) {
        if (!cgroup_place(root, versions[version].controller, place)) {
            continue;
        }
        do { /* a container may see its own cgroup at the top, whatever its place is called outside
              */
            uint64_t left;

            snprintf(folder, sizeof(folder), "%s%s%s", root, versions[version].mount, place);
            left = memory_left(&versions[version], folder);
            least = left < least ? left : least;
        } while (ascend(place));
    }
    return least;
}

/* Whole cores for a quota of microseconds per period; n where there is none. */
static uint32_t cores_of(uint64_t quota_us, uint64_t period_us, uint32_t n)
{
    uint64_t cores = period_us > 0 ? quota_us / period_us + (quota_us % period_us > 0) : n;

    return cores < n ? (uint32_t)cores : n;
}

/* cpu.max holds "QUOTA PERIOD" or "max PERIOD"; version 1 has a file each and a quota of -1. */
static uint32_t cores_left(const char *folder, uint32_t n)
{
    char path[3 * PATH_BYTES];
    uint64_t quota, period;
    int64_t v1_quota = -1;
    FILE *file;

    snprintf(path, sizeof(path), "%s/cpu.max", folder);
    file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%" SCNu64 " %" SCNu64, &quota, &period) == 2) {
            n = cores_of(quota, period, n);
        }
        fclose(file);
    }
    snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", folder);
    file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%" SCNd64, &v1_quota) != 1) {
            v1_quota = -1;
        }
        fclose(file);
    }
    snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", folder);
    if (v1_quota > 0 && read_number(path, &period)) {
        n = cores_of((uint64_t)v1_quota, period, n);
    }
    return n;
}

uint32_t ag_host_quota_cores(const char *root, uint32_t n)
{
    static const char *const hierarchies[][2] = {{"", "/sys/fs/cgroup"},
                                                 {"cpu", "/sys/fs/cgroup/cpu"},
                                                 {"cpu", "/sys/fs/cgroup/cpu,cpuacct"}};
    char place[PATH_BYTES], folder[2 * PATH_BYTES];

    for (int i = 0; i < 3; i++) {
        if (!cgroup_place(root, hierarchies[i][0], place)) {
            continue;
        }
        do {
            snprintf(folder, sizeof(folder), "%s%s%s", root, hierarchies[i][1], place);
            n = cores_left(folder, n);
        } while (ascend(place));
    }
    return n > 0 ? n : 1;
}

static uint32_t environment_number(const char *name, uint32_t least)
{
    const char *text = getenv(name);
    unsigned long number = text != NULL ? strtoul(text, NULL, 10) : least;

    return number < least ? least : number > INT32_MAX ? INT32_MAX : (uint32_t)number;
}

bool ag_host_binding_is_asked(void)
{
    const char *mapping = getenv("OMPI_MCA_rmaps_base_mapping_policy");

    return getenv("OMPI_MCA_hwloc_base_binding_policy") != NULL ||  /* --bind-to */
           getenv("OMPI_MCA_hwloc_base_cpu_set") != NULL ||         /* --cpu-set */
           getenv("OMPI_MCA_hwloc_base_cpu_list") != NULL ||        /* --cpu-list */
           (mapping != NULL && strcasestr(mapping, "PE=") != NULL); /* --map-by slot:PE=2 */
}

/* Name and parent of a process. */
static bool read_process(pid_t pid, char name[32], pid_t *parent_p)
{
    char path[64], line[256] = "", *open, *close;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    open = fgets(line, sizeof(line), file) != NULL ? strchr(line, '(') : NULL;
    close = strrchr(line, ')'); /* names may hold any character */
    fclose(file);
    if (open == NULL || close == NULL || sscanf(close + 1, " %*c %d", parent_p) != 1) {
        return false;
    }
    snprintf(name, 32, "%.*s", (int)(close - open - 1), open + 1);
    return true;
}

/*
 * The cores of the launcher above this process, which does not bind itself: those that the user
 * gave the job, with taskset for instance. False where none is found.
 */
static bool launcher_cores(cpu_set_t *cores)
{
    static const char launchers[] = "mpirun,mpiexec,orterun,orted,prterun,prted";
    char name[32];
    pid_t pid = getppid(), parent;

    for (; pid > 1 && read_process(pid, name, &parent); pid = parent) {
        if (has_word(launchers, name)) {
            return sched_getaffinity(pid, sizeof(*cores), cores) == 0;
        }
    }
    return false;
}

ag_status_t ag_host_init(ag_host_t *host)
{
    cpu_set_t own, all;

    *host = (ag_host_t){.under_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL,
                        .local_rank = environment_number("OMPI_COMM_WORLD_LOCAL_RANK", 0),
                        .n_local = environment_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1)};
    if (sched_getaffinity(0, sizeof(own), &own) != 0) {
        return ag_fail(AG_ERR_IO, "the system does not say which cores this process may use");
    }
    if (!host->under_mpirun || !launcher_cores(&all)) {
        all = own;
    } else if (!ag_host_binding_is_asked() && sched_setaffinity(0, sizeof(all), &all) == 0) {
        own = all;
    }
    host->n_cores = ag_host_quota_cores("", (uint32_t)CPU_COUNT(&all));
    memcpy(&host->cores, &all, sizeof(all));
    host->n_own_cores = (uint32_t)CPU_COUNT(&own);
    host->available_bytes = ag_host_available_bytes("");
    return AG_OK;
}

uint32_t ag_host_threads(const ag_host_t *host)
{
    uint32_t share =
        host->n_cores / host->n_local + (host->local_rank < host->n_cores % host->n_local);

    share = share < host->n_own_cores ? share : host->n_own_cores;
    return share > 0 ? share : 1;
}
