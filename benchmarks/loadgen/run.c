#include "run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

#include "plan.h"

enum { EVENTS = 1024, EVENTS_JOINING = 64, SETTLE_US = 500000, LOOK_US = 300000, SEED_TIMEOUT_US = 120000000 };

typedef enum { FIRST, STAYING, LATE } group;
typedef struct { int epoll, timer; } loop;

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t now_us(const run *g) { return (uint32_t)((now_ns() - g->origin_ns) / 1000); }

void die(const char *what) {
    fprintf(stderr, "loadgen: %s\n", what);
    exit(1);
}

void *array(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("not enough memory");
    return memory;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void say(const char *event) {
    printf("{\"event\":\"%s\"}\n", event);
    fflush(stdout);
}

static void wait_for_caller(void) {
    while (getchar() != '\n' && !feof(stdin)) {}
}

// ---- one pass of the loop

// Wakes the loop at a moment of `now_us`; a timer that stands already is left alone.
static void arm(const run *g, const loop *l, double at_us) {
    static double armed_us = -1;
    if (at_us == armed_us && at_us > now_us(g)) return;
    uint64_t ns = g->origin_ns + (uint64_t)(at_us * 1000);
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)}};
    timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &spec, NULL);
    armed_us = at_us;
}

static void pass(run *g, const loop *l) {
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(l->epoll, events, g->opt.late ? EVENTS_JOINING : EVENTS, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait failed");
    // Who is measured comes before who joins: those read megabytes.
    for (int late = 0; late < (g->opt.late ? 2 : 1); late++) {
        for (int i = 0; i < count; i++) {
            client *c = events[i].data.ptr;
            if (!c || c->late != late) continue;    // none: the timer
            if (c->phase != CLOSED && events[i].events & EPOLLOUT) writable(g, c, l->epoll);
            if (c->phase != CLOSED && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(g, c);
        }
    }
    flush_dirty(g, l->epoll);
}

static void idle(run *g, const loop *l, uint32_t us) {
    for (uint32_t end = now_us(g) + us; now_us(g) < end;) {
        arm(g, l, end);
        pass(g, l);
    }
}

// ---- coming in

static group group_of(const run *g, const client *c) {
    bool first = c->slot == 0 && (g->opt.use == UPLOAD || g->opt.first_alone);
    return c->late ? LATE : first ? FIRST : STAYING;
}

// Opens whom it may of a group; `at` is where the last call ended.
static void open_some(run *g, const loop *l, group wanted, uint32_t *at) {
    for (; *at < g->count && g->opening < g->opt.opening_max; (*at)++) {
        if (group_of(g, &g->clients[*at]) == wanted) open_client(g, &g->clients[*at], l->epoll);
    }
    flush_dirty(g, l->epoll);
}

static void connect_all(run *g, const loop *l, group wanted) {
    uint32_t deadline = now_us(g) + (uint32_t)(g->opt.connect_timeout_s * 1e6), at = 0;
    while (at < g->count || g->opening) {
        open_some(g, l, wanted, &at);
        if (at == g->count && !g->opening) break;
        arm(g, l, deadline);
        pass(g, l);
        if (g->lost) die(g->first_error ? g->first_error : "the server closed a client before it was synced");
        if (now_us(g) > deadline) die(g->first_error ? g->first_error : "not every client was synced in time");
    }
}

static bool answered(const run *g, uint32_t answers) {
    for (uint32_t i = 0; i < g->count; i++) {
        if (brings_document(g, &g->clients[i]) && g->clients[i].answers < answers) return false;
    }
    return true;
}

// Gives every room its document, piece by piece; a piece is taken when the server has answered what came behind it.
static void seed(run *g, const loop *l) {
    uint32_t deadline = now_us(g) + SEED_TIMEOUT_US;
    for (uint32_t number = 0; number < g->opt.document.pieces; number++) {
        for (uint32_t i = 0; i < g->count; i++) {
            client *c = &g->clients[i];
            if (!brings_document(g, c)) continue;
            send_piece(g, c, number);
            ask_for_the_rest(g, c, number);
        }
        flush_dirty(g, l->epoll);
        while (!answered(g, number + 2)) {          // the first answer was that of the greeting
            arm(g, l, deadline);
            pass(g, l);
            if (g->lost) die("the server closed a client that brought a document");
            if (now_us(g) > deadline) die("the server did not take the document in time");
        }
    }
    idle(g, l, SETTLE_US);
    say("seeded");
    wait_for_caller();
}

// ---- measuring

static bool outstanding(const run *g) {
    return missing_updates(g, false) || missing_entries(g) || missing_acknowledgements(g) || missing_documents(g);
}

static void begin_measuring(run *g) {
    for (uint32_t i = 0; i < g->count; i++) {
        g->updates[i].measured_from = g->updates[i].next;
        g->entries[i].measured_from = g->entries[i].next;
    }
    memset(&g->behind, 0, sizeof g->behind);
    g->frames_in = g->bytes_in = g->frames_out = g->bytes_out = g->acknowledgements = 0;
    g->update.own_echoes = g->entry.own_echoes = 0;
    say("start");
}

static void pause_stalled(run *g, const loop *l, bool paused) {
    for (uint32_t i = 0; i < g->count; i++) {
        if (g->clients[i].stalled && g->clients[i].phase != CLOSED) pause_reading(&g->clients[i], l->epoll, paused);
    }
}

static bool all_joined(const run *g, uint32_t late_at) { return late_at == g->count && !g->opening; }

// Sends by the plans and lets the late in, until `until_us` or, if so wished, until everybody is there.
static void send_all(run *g, const loop *l, plan *plans, uint32_t start_us, double late_us, double until_us) {
    static uint32_t at;
    bool waits = g->opt.until_joined && isfinite(late_us);
    if (waits) until_us = late_us + g->opt.join_timeout_s * 1e6;
    for (double elapsed = now_us(g) - start_us; elapsed < until_us; elapsed = now_us(g) - start_us) {
        if (elapsed >= late_us) open_some(g, l, LATE, &at);
        if (waits && elapsed >= late_us && all_joined(g, at)) break;
        double due = fmin(next_due_us(plans), elapsed < late_us ? fmin(late_us, until_us) : until_us);
        arm(g, l, start_us + due);
        pass(g, l);
        send_due(g, plans, now_us(g) - start_us, until_us);
        flush_dirty(g, l->epoll);
    }
    // Those who come when all is sent.
    for (double end = late_us + g->opt.join_timeout_s * 1e6; isfinite(end) && now_us(g) - start_us < end && !all_joined(g, at);) {
        open_some(g, l, LATE, &at);
        arm(g, l, start_us + end);
        pass(g, l);
    }
}

// Waits for what is under way; returns the seconds until the slow readers had everything, or -1.
static double drain(run *g, const loop *l) {
    double recovered_s = -1;
    uint32_t begin = now_us(g), end = begin + (uint32_t)(g->opt.drain_s * 1e6);
    bool slow = g->opt.stalled > 0;
    while ((outstanding(g) || slow) && now_us(g) < end) {
        idle(g, l, 2000);
        if (slow && missing_updates(g, true) == 0) {
            slow = false;
            recovered_s = (now_us(g) - begin) / 1e6;
        }
    }
    return recovered_s;
}

static void measure(run *g, const loop *l, bool look) {
    static plan plans[PLANS];
    const options *o = &g->opt;
    double warmup_us = o->warmup_s * 1e6, late_us = o->late ? warmup_us + o->late_at_s * 1e6 : INFINITY;
    make_plans(g, plans);
    uint32_t start = now_us(g);
    if (o->warmup_s > 0) send_all(g, l, plans, start, INFINITY, warmup_us);
    begin_measuring(g);
    pause_stalled(g, l, true);
    uint64_t began = now_ns();
    double cpu = cpu_s();
    send_all(g, l, plans, start, late_us, warmup_us + o->seconds * 1e6);
    if (look) {
        idle(g, l, LOOK_US);
        say("sent");
        wait_for_caller();
    }
    pause_stalled(g, l, false);
    double recovered_s = drain(g, l);
    double window_s = (double)(now_ns() - began) / 1e9;
    cpu = cpu_s() - cpu;
    say("stop");
    wait_for_caller();
    print_result(g, window_s, cpu, recovered_s);
}

static source make_source(double rate, double span_s) {
    source s = {.capacity = rate > 0 ? (uint32_t)(rate * span_s) + 16 : 0, .measured_from = UINT32_MAX};
    s.sent_us = array(s.capacity, sizeof *s.sent_us);
    return s;
}

static void prepare(run *g) {
    const options *o = &g->opt;
    double span_s = o->warmup_s + 1 + (o->until_joined ? o->late_at_s + o->join_timeout_s : o->seconds);
    g->count = o->rooms * o->clients;
    g->clients = array(g->count, sizeof *g->clients);
    g->updates = array(g->count, sizeof *g->updates);
    g->entries = array(g->count, sizeof *g->entries);
    for (uint32_t i = 0; i < g->count; i++) {
        client *c = &g->clients[i];
        c->room = i / o->clients;
        c->slot = i % o->clients;
        c->late = c->slot >= o->clients - o->late;
        c->stalled = !c->late && c->slot >= o->clients - o->late - o->stalled;
        if (o->update_rate > 0) c->update_next = array(o->clients, sizeof *c->update_next);
        if (o->cursor_rate > 0) c->entry_last = array(o->clients, sizeof *c->entry_last);
        g->updates[i] = make_source(c->slot < o->writers ? o->update_rate : 0, span_s);
        g->entries[i] = make_source(o->cursor_rate, span_s);
        g->entries[i].next = 1;                     // y-protocols shows nothing at clock 0
    }
}

int perform(options opt, bool look) {
    static run g;
    struct rlimit files;
    loop l = {epoll_create1(EPOLL_CLOEXEC), timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)};
    struct epoll_event tick = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    g.opt = opt;
    prepare(&g);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < g.count + 16) die("the limit on open files (ulimit -Hn) is below the number of clients");
    if (l.epoll < 0 || l.timer < 0 || epoll_ctl(l.epoll, EPOLL_CTL_ADD, l.timer, &tick) < 0) die("no epoll or timer");
    g.origin_ns = now_ns();
    uint32_t came = now_us(&g);
    connect_all(&g, &l, FIRST);
    if (opt.use == UPLOAD) {
        seed(&g, &l);
        came = now_us(&g);
    }
    connect_all(&g, &l, STAYING);
    printf("{\"event\":\"synced\",\"clients\":%u,\"seconds\":%.6f}\n", g.synced, (now_us(&g) - came) / 1e6);
    fflush(stdout);
    idle(&g, &l, SETTLE_US);
    measure(&g, &l, look);
    return 0;
}
