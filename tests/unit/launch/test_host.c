#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>

#include "launch/host_priv.h"
#include "make_files.h"

static const char MEMINFO[] = "MemTotal:       24000000 kB\nMemFree:         1000 kB\n"
                              "MemAvailable:   20000000 kB\n";
enum { KIB = 1024 };
static const uint64_t MACHINE_BYTES = 20000000ull * KIB;

Test(host, without_cgroups_the_machine_says_what_is_available)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    cr_expect_eq(ag_host_available_bytes(root), MACHINE_BYTES);
}

Test(host, a_cgroup_2_leaves_its_limit_less_its_usage)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "0::/job\n");
    make_file(root, "sys/fs/cgroup/job/memory.max", "1000000\n");
    make_file(root, "sys/fs/cgroup/job/memory.current", "400000\n");
    cr_expect_eq(ag_host_available_bytes(root), 600000);
}

Test(host, file_pages_of_a_cgroup_count_as_free)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "0::/job\n");
    make_file(root, "sys/fs/cgroup/job/memory.max", "1000000\n");
    make_file(root, "sys/fs/cgroup/job/memory.current", "900000\n");
    make_file(root, "sys/fs/cgroup/job/memory.stat",
              "anon 300000\ninactive_file 500000\nactive_file 50000\n");
    cr_expect_eq(ag_host_available_bytes(root), 650000);
}

Test(host, a_full_cgroup_leaves_nothing)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "0::/job\n");
    make_file(root, "sys/fs/cgroup/job/memory.max", "1000000\n");
    make_file(root, "sys/fs/cgroup/job/memory.current", "1000001\n");
    cr_expect_eq(ag_host_available_bytes(root), 0);
}

Test(host, a_parents_limit_binds_too)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "0::/slice/job\n");
    make_file(root, "sys/fs/cgroup/slice/job/memory.max", "max\n");
    make_file(root, "sys/fs/cgroup/slice/memory.max", "700000\n");
    make_file(root, "sys/fs/cgroup/slice/memory.current", "200000\n");
    cr_expect_eq(ag_host_available_bytes(root), 500000);
}

Test(host, a_cgroup_1_is_found_among_others)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "5:cpuset:/\n4:hugetlb,memory:/job\n0::/\n");
    make_file(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "800000\n");
    make_file(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "300000\n");
    make_file(root, "sys/fs/cgroup/memory/job/memory.stat",
              "inactive_file 1\ntotal_inactive_file 100000\n");
    cr_expect_eq(ag_host_available_bytes(root), 600000);
}

Test(host, a_container_sees_its_cgroup_1_at_the_top)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "4:memory:/docker/0123abcd\n");
    make_file(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "800000\n");
    make_file(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "300000\n");
    cr_expect_eq(ag_host_available_bytes(root), 500000);
}

Test(host, an_unlimited_cgroup_1_leaves_the_machine)
{
    const char *root = make_folder();

    make_file(root, "proc/meminfo", MEMINFO);
    make_file(root, "proc/self/cgroup", "4:memory:/\n");
    make_file(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    make_file(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "300000\n");
    cr_expect_eq(ag_host_available_bytes(root), MACHINE_BYTES);
}

Test(host, a_quota_leaves_whole_cores_rounded_up)
{
    const char *root = make_folder();

    make_file(root, "proc/self/cgroup", "0::/slice/job\n");
    make_file(root, "sys/fs/cgroup/slice/job/cpu.max", "max 100000\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 8);
    make_file(root, "sys/fs/cgroup/slice/cpu.max", "250000 100000\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 3);
    cr_expect_eq(ag_host_quota_cores(root, 2), 2);
    make_file(root, "sys/fs/cgroup/slice/job/cpu.max", "20000 100000\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 1);
}

Test(host, a_quota_of_version_1_counts_unless_it_is_minus_one)
{
    const char *root = make_folder();

    make_file(root, "proc/self/cgroup", "3:cpu,cpuacct:/job\n");
    make_file(root, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
    make_file(root, "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 8);
    make_file(root, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 4);
}

Test(host, a_quota_of_no_period_is_none)
{
    const char *root = make_folder();

    make_file(root, "proc/self/cgroup", "0::/\n");
    make_file(root, "sys/fs/cgroup/cpu.max", "100000 0\n");
    cr_expect_eq(ag_host_quota_cores(root, 8), 8);
}

Test(host, cores_are_shared_by_the_ranks_the_lower_getting_the_remainder)
{
    ag_host_t host = {.n_local = 3, .n_cores = 8, .n_own_cores = 8};
    uint32_t expected[] = {3, 3, 2};

    for (host.local_rank = 0; host.local_rank < 3; host.local_rank++) {
        cr_expect_eq(ag_host_threads(&host), expected[host.local_rank]);
    }
}

Test(host, a_rank_has_a_thread_even_when_ranks_outnumber_cores)
{
    cr_expect_eq(ag_host_threads(
                     &(ag_host_t){.local_rank = 4, .n_local = 5, .n_cores = 2, .n_own_cores = 2}),
                 1);
}

Test(host, a_bound_rank_uses_no_more_than_it_is_bound_to)
{
    cr_expect_eq(ag_host_threads(&(ag_host_t){.n_local = 2, .n_cores = 16, .n_own_cores = 4}), 4);
}

Test(host, ranks_bound_to_the_same_cores_share_them)
{
    /* four ranks, two to a socket of eight */
    cr_expect_eq(ag_host_threads(&(ag_host_t){.n_local = 4, .n_cores = 16, .n_own_cores = 8}), 4);
}

Test(host, without_mpirun_a_process_is_alone)
{
    ag_host_t host;
    cpu_set_t cores;

    unsetenv("OMPI_COMM_WORLD_SIZE");
    cr_assert_eq(ag_host_init(&host), AG_OK);
    cr_assert_eq(sched_getaffinity(0, sizeof(cores), &cores), 0);
    cr_expect_not(host.under_mpirun);
    cr_expect_eq(host.n_local, 1);
    cr_expect_eq(host.n_own_cores, (uint32_t)CPU_COUNT(&cores));
    cr_expect_leq(host.n_cores, host.n_own_cores);
    cr_expect_gt(host.available_bytes, 0);
}

Test(host, mpiruns_environment_tells_the_ranks_beside_this_one)
{
    ag_host_t host;

    setenv("OMPI_COMM_WORLD_SIZE", "6", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", "2", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "3", 1);
    cr_assert_eq(ag_host_init(&host), AG_OK);
    cr_expect(host.under_mpirun);
    cr_expect_eq(host.local_rank, 2);
    cr_expect_eq(host.n_local, 3);
}

Test(host, an_environment_without_sense_is_one_rank)
{
    ag_host_t host;

    setenv("OMPI_COMM_WORLD_SIZE", "", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "0", 1);
    cr_assert_eq(ag_host_init(&host), AG_OK);
    cr_expect_eq(host.n_local, 1);
    cr_expect_geq(ag_host_threads(&host), 1);
}

Test(host, mpiruns_own_binding_is_nobodys_wish)
{
    setenv("OMPI_MCA_orte_bound_at_launch", "1", 1);
    setenv("OMPI_MCA_rmaps_base_mapping_policy", "slot", 1);
    cr_expect_not(ag_host_binding_is_asked());
}

Test(host, a_binding_that_was_asked_for_is_seen)
{
    static const char *const wishes[][2] = {
        {"OMPI_MCA_hwloc_base_binding_policy", "core"},
        {"OMPI_MCA_hwloc_base_cpu_set", "0,1"},
        {"OMPI_MCA_hwloc_base_cpu_list", "0,1"},
        {"OMPI_MCA_rmaps_base_mapping_policy", "slot:pe=2"},
    };

    for (int i = 0; i < 4; i++) {
        setenv(wishes[i][0], wishes[i][1], 1);
        cr_expect(ag_host_binding_is_asked(), "%s", wishes[i][0]);
        unsetenv(wishes[i][0]);
    }
}

Test(host, the_peak_of_memory_grows_with_what_is_touched)
{
    enum { BYTES = 32 << 20 };
    uint64_t before = ag_process_peak_bytes();
    volatile char *touched = malloc(BYTES);

    cr_assert_not_null((void *)touched);
    for (int i = 0; i < BYTES; i += 1024) {
        touched[i] = 1;
    }
    cr_expect_geq(ag_process_peak_bytes(), before + BYTES / 2);
    free((void *)touched);
}
