#include "device_lazy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/array.h"
#include "runtime/base/philox.h"

/* What memory of the host holds at first: as a float it is huge, as a number of rows too. */
enum { NOTHING = 0x7f };

enum { MOST_HASTE = 3, MOST_ASLEEP = 32 };

typedef enum work_kind { LAUNCH, COPY, WAIT } work_kind_t;

/* In a stream's queue. */
typedef struct work {
    work_kind_t kind;
    ag_region_fn_t fn;
    void *arg;
    void *to;
    const void *from;
    size_t bytes;
    ag_mark_t mark;
} work_t;

typedef struct stream {
    ag_array_t works; /* work_t, since the stream was empty */
    size_t at;        /* the first that is not done */
    uint64_t n_queued, n_done;
} stream_t;

typedef struct lazy_device {
    ag_device_t base;
    ag_team_t *team;
    ag_device_lazy_opts_t opts;
    stream_t streams[AG_DEVICE_STREAMS];
    ag_array_t regions; /* ag_region_t, the device's own */
    uint64_t n_draws, n_waits;
    uint32_t haste;    /* how much a query does at most just now */
    uint32_t asleep;   /* bits: streams that do nothing, */
    uint32_t n_asleep; /* for so many calls */
} lazy_device_t;

static lazy_device_t *lazy_of(ag_device_t *device)
{
    return (lazy_device_t *)device;
}

static uint32_t draw(lazy_device_t *lazy, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(lazy->opts.seed, 11, lazy->n_draws++) * n);
}

/* An invariant of the device's user: no library of ours returns from here. */
static void must(bool is_true, const char *what)
{
    if (!is_true) {
        fprintf(stderr, "lazy device: %s\n", what);
        abort();
    }
}

static void protect_all(const lazy_device_t *lazy, int protection)
{
    for (size_t i = 0; i < lazy->regions.n_items; i++) {
        const ag_region_t *region = &AG_ITEMS(&lazy->regions, ag_region_t)[i];

        must(mprotect(region->base, region->bytes, protection) == 0, "mprotect failed");
    }
}

static bool is_done(const lazy_device_t *lazy, ag_mark_t mark)
{
    return lazy->streams[mark.stream].n_done >= mark.n;
}

/* A wait that is over is done by the way. */
static bool can_go_on(lazy_device_t *lazy, stream_t *stream)
{
    while (stream->n_done < stream->n_queued) {
        const work_t *work = &AG_ITEMS(&stream->works, work_t)[stream->at];

        if (work->kind != WAIT) {
            return true;
        }
        if (!is_done(lazy, work->mark)) {
            return false;
        }
        stream->at++;
        stream->n_done++;
    }
    return false;
}

/* Any stream that is awake and can go on; NULL: there is none. */
static stream_t *pick(lazy_device_t *lazy)
{
    stream_t *able[AG_DEVICE_STREAMS];
    uint32_t n_able = 0;

    for (uint32_t s = 0; s < AG_DEVICE_STREAMS; s++) {
        able[n_able] = &lazy->streams[s];
        n_able += can_go_on(lazy, &lazy->streams[s]) && !(lazy->asleep >> s & 1);
    }
    return n_able > 0 ? able[draw(lazy, n_able)] : NULL;
}

static void do_work(lazy_device_t *lazy, stream_t *stream)
{
    work_t work = AG_ITEMS(&stream->works, work_t)[stream->at];

    protect_all(lazy, PROT_READ | PROT_WRITE);
    if (work.kind == LAUNCH) {
        ag_team_run(lazy->team, work.fn, work.arg);
    } else {
        memcpy(work.to, work.from, work.bytes);
    }
    protect_all(lazy, PROT_NONE);
    stream->at++;
    stream->n_done++;
}

static void say_work(const lazy_device_t *lazy)
{
    if (lazy->opts.on_work != NULL) {
        lazy->opts.on_work(lazy->opts.arg);
    }
}

/* All streams sleep for a while, or some, or none. */
static void change_mood(lazy_device_t *lazy)
{
    uint32_t some = draw(lazy, 1u << AG_DEVICE_STREAMS);

    lazy->haste = 1 + draw(lazy, MOST_HASTE);
    lazy->n_asleep = draw(lazy, MOST_ASLEEP);
    lazy->asleep = draw(lazy, 4) == 0 ? ~0u : some & draw(lazy, 1u << AG_DEVICE_STREAMS);
    if (lazy->opts.late != 0) {
        lazy->n_asleep = MOST_ASLEEP;
        lazy->asleep = lazy->opts.late;
    }
}

/* A call does nothing, or some work: one that queues more seldom anything, but in a hurry. Between
 * two sleeps something is done. */
static void go_on(lazy_device_t *lazy, bool queues)
{
    uint32_t n =
        queues && lazy->haste < MOST_HASTE ? draw(lazy, 8) == 0 : draw(lazy, lazy->haste + 1);
    stream_t *stream;

    if (lazy->n_asleep > 0) {
        lazy->n_asleep--;
    } else if (lazy->asleep != 0) {
        lazy->asleep = 0;
        n = n > 0 ? n : 1;
    } else if (draw(lazy, lazy->opts.late != 0 ? 2 : 16) == 0) {
        change_mood(lazy);
    }
    for (; n > 0 && (stream = pick(lazy)) != NULL; n--) {
        do_work(lazy, stream);
        say_work(lazy);
    }
}

static ag_status_t queue(ag_device_t *device, uint32_t s, const work_t *work)
{
    lazy_device_t *lazy = lazy_of(device);
    stream_t *stream = &lazy->streams[s];
    ag_status_t status;

    must(s < AG_DEVICE_STREAMS, "no such stream");
    if (stream->n_done == stream->n_queued) {
        stream->works.n_items = stream->at = 0;
    }
    status = ag_array_append(&stream->works, work, 1);
    if (status == AG_OK) {
        stream->n_queued++;
        go_on(lazy, true);
    }
    return status;
}

static bool is_idle(const lazy_device_t *lazy)
{
    for (uint32_t s = 0; s < AG_DEVICE_STREAMS; s++) {
        if (lazy->streams[s].n_done < lazy->streams[s].n_queued) {
            return false;
        }
    }
    return true;
}

static void lazy_close(ag_device_t *device)
{
    lazy_device_t *lazy = lazy_of(device);

    must(is_idle(lazy), "closed while work is under way");
    for (uint32_t s = 0; s < AG_DEVICE_STREAMS; s++) {
        ag_array_fini(&lazy->streams[s].works);
    }
    ag_array_fini(&lazy->regions);
    free(lazy);
}

static ag_status_t lazy_alloc(ag_device_t *device, const char *part, size_t bytes,
                              size_t share_bytes, ag_region_t *region_p)
{
    lazy_device_t *lazy = lazy_of(device);
    ag_status_t status = ag_region_map(device->ledger, part, bytes, NULL, region_p);

    (void)share_bytes; /* where pages lie makes no difference here */
    if (status != AG_OK || bytes == 0) {
        return status;
    }
    status = ag_array_append(&lazy->regions, region_p, 1);
    if (status != AG_OK) {
        ag_region_unmap(region_p);
        return status;
    }
    protect_all(lazy, PROT_NONE);
    return AG_OK;
}

static ag_status_t lazy_alloc_host(ag_device_t *device, const char *part, size_t bytes,
                                   ag_region_t *region_p)
{
    ag_status_t status = ag_region_map(device->ledger, part, bytes, NULL, region_p);

    if (status == AG_OK && bytes > 0) {
        memset(region_p->base, NOTHING, bytes);
    }
    return status;
}

static void lazy_free(ag_device_t *device, ag_region_t *region)
{
    lazy_device_t *lazy = lazy_of(device);
    ag_region_t *regions = AG_ITEMS(&lazy->regions, ag_region_t);

    must(region->bytes == 0 || is_idle(lazy), "memory given back while work is under way");
    for (size_t i = 0; i < lazy->regions.n_items; i++) {
        if (regions[i].base == region->base) {
            regions[i] = regions[--lazy->regions.n_items];
        }
    }
    ag_region_unmap(region);
}

static ag_status_t lazy_launch(ag_device_t *device, uint32_t stream, ag_region_fn_t fn, void *arg)
{
    return queue(device, stream, &(work_t){.kind = LAUNCH, .fn = fn, .arg = arg});
}

static bool owns(const lazy_device_t *lazy, const void *memory, size_t bytes)
{
    uintptr_t at = (uintptr_t)memory;

    for (size_t i = 0; i < lazy->regions.n_items; i++) {
        const ag_region_t *region = &AG_ITEMS(&lazy->regions, ag_region_t)[i];
        uintptr_t base = (uintptr_t)region->base;

        if (at >= base && at + bytes <= base + region->bytes) {
            return true;
        }
    }
    return false;
}

static ag_status_t queue_copy(ag_device_t *device, uint32_t stream, void *to, const void *from,
                              size_t bytes)
{
    return queue(device, stream, &(work_t){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}

static ag_status_t lazy_copy_in(ag_device_t *device, uint32_t stream, void *to, const void *from,
                                size_t bytes)
{
    must(owns(lazy_of(device), to, bytes) && !owns(lazy_of(device), from, 1),
         "copies in go from the host's memory to the device's");
    return queue_copy(device, stream, to, from, bytes);
}

static ag_status_t lazy_copy_out(ag_device_t *device, uint32_t stream, void *to, const void *from,
                                 size_t bytes)
{
    must(owns(lazy_of(device), from, bytes) && !owns(lazy_of(device), to, 1),
         "copies out go from the device's memory to the host's");
    return queue_copy(device, stream, to, from, bytes);
}

/* Is this the wait that is forgotten? */
static bool forgets(lazy_device_t *lazy)
{
    return ++lazy->n_waits == lazy->opts.forgotten;
}

static ag_mark_t lazy_record(ag_device_t *device, uint32_t stream)
{
    return (ag_mark_t){.stream = stream, .n = lazy_of(device)->streams[stream].n_queued};
}

static ag_status_t lazy_wait(ag_device_t *device, uint32_t stream, ag_mark_t mark)
{
    lazy_device_t *lazy = lazy_of(device);

    must(mark.n <= lazy->streams[mark.stream].n_queued, "waits for what nobody has queued");
    return is_done(lazy, mark) || forgets(lazy)
               ? AG_OK
               : queue(device, stream, &(work_t){.kind = WAIT, .mark = mark});
}

static ag_status_t lazy_query(ag_device_t *device, ag_mark_t mark)
{
    lazy_device_t *lazy = lazy_of(device);

    go_on(lazy, false);
    if (is_done(lazy, mark) || forgets(lazy)) {
        return AG_OK;
    }
    if (pick(lazy) != NULL) { /* else others go on as far as they can */
        say_work(lazy);
    }
    return AG_PENDING;
}

static const ag_device_ops_t lazy_ops = {
    .name = "lazy",
    .close = lazy_close,
    .alloc = lazy_alloc,
    .alloc_host = lazy_alloc_host,
    .free = lazy_free,
    .launch = lazy_launch,
    .copy_in = lazy_copy_in,
    .copy_out = lazy_copy_out,
    .record = lazy_record,
    .wait = lazy_wait,
    .query = lazy_query,
};

ag_status_t ag_device_lazy_open(ag_team_t *team, ag_ledger_t *ledger,
                                const ag_device_lazy_opts_t *opts, ag_device_t **device_p)
{
    lazy_device_t *lazy = calloc(1, sizeof(*lazy));

    if (lazy == NULL) {
        return ag_fail_nomem("opening the lazy device", sizeof(*lazy));
    }
    lazy->base = (ag_device_t){.ops = &lazy_ops, .ledger = ledger};
    lazy->team = team;
    lazy->opts = opts != NULL ? *opts : (ag_device_lazy_opts_t){0};
    lazy->regions = AG_ARRAY(ag_region_t);
    if (lazy->opts.late == 0 && draw(lazy, 2) == 0) {
        lazy->opts.late = 1u << draw(lazy, AG_DEVICE_STREAMS / 2); /* the others are seldom used */
    }
    change_mood(lazy);
    for (uint32_t s = 0; s < AG_DEVICE_STREAMS; s++) {
        lazy->streams[s].works = AG_ARRAY(work_t);
    }
    *device_p = &lazy->base;
    return AG_OK;
}

uint64_t ag_device_lazy_waits(const ag_device_t *device)
{
    return ((const lazy_device_t *)device)->n_waits;
}
