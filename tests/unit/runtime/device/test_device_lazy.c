/* What the lazy device is for: what is wrong shows. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device_lazy.h"

typedef struct setup {
    ag_team_t *team;
    ag_ledger_t *ledger;
    ag_device_t *device;
    ag_region_t numbers; /* of the device, two */
} setup_t;

static setup_t open_lazy(const ag_device_lazy_opts_t *opts)
{
    setup_t s = {0};

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 1}, &s.team), AG_OK);
    cr_assert_eq(ag_ledger_create(0, &s.ledger), AG_OK);
    cr_assert_eq(ag_device_lazy_open(s.team, s.ledger, opts, &s.device), AG_OK);
    cr_assert_eq(s.device->ops->alloc(s.device, "numbers", 2 * sizeof(uint32_t), 0, &s.numbers),
                 AG_OK);
    return s;
}

static void close_lazy(setup_t *s)
{
    for (uint32_t stream = 0; stream < AG_DEVICE_STREAMS; stream++) {
        cr_assert_eq(ag_device_finish(s->device, stream), AG_OK);
    }
    s->device->ops->free(s->device, &s->numbers);
    ag_device_close(s->device);
    ag_ledger_destroy(s->ledger);
    ag_team_destroy(s->team);
}

/* How a process ends that does something. */
static int end_of(void (*fn)(setup_t *s), setup_t *s)
{
    int end = 0;
    pid_t child = fork();

    cr_assert_geq(child, 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(2);
        }
        fn(s);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &end, 0), child);
    return WIFSIGNALED(end) ? WTERMSIG(end) : -WEXITSTATUS(end);
}

static void look(setup_t *s)
{
    (void)*(volatile uint32_t *)s->numbers.base;
}

static void write_over(setup_t *s)
{
    *(volatile uint32_t *)s->numbers.base = 1;
}

static uint32_t number;

static void copy_from_itself(setup_t *s)
{
    (void)s->device->ops->copy_in(s->device, 0, s->numbers.base, (uint32_t *)s->numbers.base + 1,
                                  sizeof(number));
}

static void copy_by_the_wrong_way(setup_t *s)
{
    (void)s->device->ops->copy_in(s->device, 0, &number, s->numbers.base, sizeof(number));
}

static void copy_too_much(setup_t *s)
{
    (void)s->device->ops->copy_out(s->device, 0, &number, (uint32_t *)s->numbers.base + 1,
                                   2 * sizeof(number));
}

static void nothing(void *arg, const ag_worker_t *worker)
{
    (void)arg;
    (void)worker;
}

static void leave_work(setup_t *s)
{
    for (int i = 0; i < 1000; i++) {
        (void)s->device->ops->launch(s->device, 0, nothing, NULL);
        (void)s->device->ops->launch(s->device, 1, nothing, NULL);
    }
    s->device->ops->free(s->device, &s->numbers);
}

static void do_nothing(setup_t *s)
{
    (void)s;
}

Test(device_lazy, what_nobody_may_do_ends_the_process)
{
    setup_t s = open_lazy(NULL);

    cr_expect_eq(end_of(do_nothing, &s), 0);
    cr_expect_eq(end_of(look, &s), SIGSEGV);
    cr_expect_eq(end_of(write_over, &s), SIGSEGV);
    cr_expect_eq(end_of(copy_from_itself, &s), SIGABRT);
    cr_expect_eq(end_of(copy_by_the_wrong_way, &s), SIGABRT);
    cr_expect_eq(end_of(copy_too_much, &s), SIGABRT);
    cr_expect_eq(end_of(leave_work, &s), SIGABRT);
    close_lazy(&s);
}

/* Who was first, and whether it ran. */
typedef struct racer {
    uint32_t name;
    uint32_t *n_ended;
    uint32_t *order;
} racer_t;

static void run_racer(void *arg, const ag_worker_t *worker)
{
    const racer_t *racer = arg;

    (void)worker;
    racer->order[(*racer->n_ended)++] = racer->name;
}

enum { N_RACERS = 6 };

/* The order of regions on a stream each, as a number; what was done when all were queued. */
static uint64_t race(uint64_t seed, uint32_t *n_early_p)
{
    setup_t s = open_lazy(&(ag_device_lazy_opts_t){.seed = seed});
    uint32_t n_ended = 0, order[N_RACERS];
    racer_t racers[N_RACERS];
    uint64_t number_of_order = 0;

    for (uint32_t i = 0; i < N_RACERS; i++) {
        racers[i] = (racer_t){i, &n_ended, order};
        cr_assert_eq(s.device->ops->launch(s.device, i, run_racer, &racers[i]), AG_OK);
    }
    *n_early_p = n_ended;
    close_lazy(&s);
    cr_assert_eq(n_ended, N_RACERS);
    for (uint32_t i = 0; i < N_RACERS; i++) {
        number_of_order = number_of_order * N_RACERS + order[i];
    }
    return number_of_order;
}

Test(device_lazy, streams_run_in_orders_of_their_own_the_same_for_a_seed)
{
    uint32_t n_first_last = 0, n_all_early = 0, n_none_early = 0, n_early, again;

    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t order = race(seed, &n_early);

        cr_expect_eq(race(seed, &again), order);
        cr_expect_eq(again, n_early);
        n_first_last += order % N_RACERS == 0;
        n_all_early += n_early == N_RACERS;
        n_none_early += n_early == 0;
    }
    cr_expect_gt(n_first_last, 5, "what was queued first is now and then the last to run");
    cr_expect_gt(n_all_early, 0);
    cr_expect_gt(n_none_early, 5);
}

/* A number goes in by a stream and out by another, which waits or not. */
static uint32_t pass_through(uint64_t seed, uint64_t forgotten, bool waits, uint64_t *n_waits_p)
{
    setup_t s = open_lazy(&(ag_device_lazy_opts_t){.seed = seed, .forgotten = forgotten});
    uint32_t in = 42, out = 0;

    cr_assert_eq(s.device->ops->copy_in(s.device, 0, s.numbers.base, &in, sizeof(in)), AG_OK);
    if (waits) {
        cr_assert_eq(ag_device_wait(s.device, 1, ag_device_record(s.device, 0)), AG_OK);
    }
    cr_assert_eq(s.device->ops->copy_out(s.device, 1, &out, s.numbers.base, sizeof(out)), AG_OK);
    cr_assert_eq(ag_device_finish(s.device, 1), AG_OK);
    number = out;
    *n_waits_p = ag_device_lazy_waits(s.device);
    close_lazy(&s);
    return number;
}

Test(device_lazy, a_wait_that_is_missing_or_forgotten_gives_wrong_numbers)
{
    uint32_t n_wrong = 0, n_waits_wrong = 0;
    uint64_t n_waits, n_forgotten;

    for (uint64_t seed = 0; seed < 200; seed++) {
        cr_assert_eq(pass_through(seed, 0, true, &n_waits), 42);
        n_wrong += pass_through(seed, 0, false, &n_forgotten) != 42;
        for (uint64_t i = 1; i <= n_waits; i++) {
            n_waits_wrong += pass_through(seed, i, true, &n_forgotten) != 42;
        }
    }
    cr_expect_gt(n_wrong, 20, "%u", n_wrong);
    cr_expect_gt(n_waits_wrong, 20, "%u", n_waits_wrong);
}

static void count(void *arg)
{
    ++*(uint32_t *)arg;
}

Test(device_lazy, who_schedules_hears_of_work)
{
    uint32_t n_told = 0;
    setup_t s = open_lazy(&(ag_device_lazy_opts_t){.seed = 1, .on_work = count, .arg = &n_told});

    for (uint32_t i = 0; i < 10; i++) {
        cr_assert_eq(s.device->ops->launch(s.device, 0, nothing, NULL), AG_OK);
    }
    cr_assert_eq(ag_device_finish(s.device, 0), AG_OK);
    cr_expect_geq(n_told, 10);
    close_lazy(&s);
}
