// The load generator: opens every client, sends made-up typing and cursor moves at a planned pace, reads everything
// that comes back, and prints what happened as JSON lines. One thread, one epoll; benchmarks/scenarios.py starts it.
//
//   stdout  {"event":"synced",...}  {"event":"start"}  {"event":"stop"}  {"event":"result",...}
//   stdin   one line (or its end) after "stop" lets the clients go, so that the caller can look at the server first
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"
#include "yjs.h"

enum { EVENTS = 1024, SETTLE_US = 500000 };

// Every source of one kind, in the order of its turns; all share one interval, each has its own phase in it.
typedef struct {
    uint32_t *order, count;
    double *phase_us, interval_us;
    uint64_t turn;
    void (*send)(run *g, client *c);
} plan;

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t now_us(const run *g) { return (uint32_t)((now_ns() - g->origin_ns) / 1000); }

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s\n", what);
    exit(1);
}

static void *array(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("not enough memory");
    return memory;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// ---- the plan: random phases from a fixed seed, the same for every server

static uint32_t next_random(void) {
    static uint64_t state = 0x853c49e6748fea9bu;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int by_phase(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static plan make_plan(run *g, uint32_t senders_a_room, double rate, void (*send)(run *, client *)) {
    plan p = {.send = send, .count = rate > 0 ? g->opt.rooms * senders_a_room : 0};
    if (p.count == 0) return p;
    p.interval_us = 1e6 / rate;
    p.order = array(p.count, sizeof *p.order);
    p.phase_us = array(p.count, sizeof *p.phase_us);
    for (uint32_t i = 0; i < p.count; i++) {
        p.order[i] = i / senders_a_room * g->opt.clients + i % senders_a_room;
        p.phase_us[i] = p.interval_us * next_random() / 2147483648.0;
    }
    for (uint32_t i = p.count - 1; i > 0; i--) {
        uint32_t j = next_random() % (i + 1), kept = p.order[i];
        p.order[i] = p.order[j];
        p.order[j] = kept;
    }
    qsort(p.phase_us, p.count, sizeof *p.phase_us, by_phase);
    return p;
}

static double due_us(const plan *p) {
    if (p->count == 0) return INFINITY;
    return p->phase_us[p->turn % p->count] + p->interval_us * (double)(p->turn / p->count);
}

static void send_due(run *g, plan *p, double elapsed_us, double until_us) {
    for (double due = due_us(p); due <= elapsed_us && due < until_us; due = due_us(p)) {
        observe(&g->behind, (uint32_t)(elapsed_us - due));
        p->send(g, &g->clients[p->order[p->turn++ % p->count]]);
    }
}

// ---- one pass of the loop

typedef struct { int epoll, timer; } loop;

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
    int count = epoll_wait(l->epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait failed");
    for (int i = 0; i < count; i++) {
        client *c = events[i].data.ptr;
        if (!c) continue;                           // the timer
        if (c->phase != CLOSED && events[i].events & EPOLLOUT) writable(g, c, l->epoll);
        if (c->phase != CLOSED && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(g, c);
    }
}

static void connect_all(run *g, const loop *l) {
    uint32_t deadline = now_us(g) + (uint32_t)(g->opt.connect_timeout_s * 1e6);
    while (g->synced < g->count) {
        while (g->opened < g->count && g->opening < g->opt.opening_max) open_client(g, &g->clients[g->opened], l->epoll);
        arm(g, l, deadline);
        pass(g, l);
        flush_dirty(g, l->epoll);
        if (g->lost) die(g->first_error ? g->first_error : "the server closed a client before it was synced");
        if (now_us(g) > deadline) die("not every client was synced in time");
    }
}

static void idle(run *g, const loop *l, uint32_t us) {
    for (uint32_t end = now_us(g) + us; now_us(g) < end;) {
        arm(g, l, end);
        pass(g, l);
        flush_dirty(g, l->epoll);
    }
}

// ---- measuring

static void count_missing(const run *g, uint64_t *updates, uint64_t *entries) {
    *updates = *entries = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        *updates += (uint64_t)g->updates[i].next * (g->opt.clients - 1);
        *entries += (uint64_t)(g->entries[i].next - 1) * (g->opt.clients - 1);
    }
    *updates -= g->update.delivered;
    *entries -= g->entry.delivered + g->entry.skipped;
}

static bool outstanding(const run *g) {
    uint64_t updates, entries;
    count_missing(g, &updates, &entries);
    return updates + entries > 0;
}

static void begin_measuring(run *g) {
    for (uint32_t i = 0; i < g->count; i++) {
        g->updates[i].measured_from = g->updates[i].next;
        g->entries[i].measured_from = g->entries[i].next;
    }
    memset(&g->behind, 0, sizeof g->behind);
    g->frames_in = g->bytes_in = g->frames_out = g->bytes_out = g->acknowledgements = 0;
    g->update.own_echoes = g->entry.own_echoes = 0;
    printf("{\"event\":\"start\"}\n");
    fflush(stdout);
}

static void send_all(run *g, const loop *l, plan *plans, uint32_t start_us, double until_us) {
    for (double elapsed = now_us(g) - start_us; elapsed < until_us; elapsed = now_us(g) - start_us) {
        double due = fmin(fmin(due_us(&plans[0]), due_us(&plans[1])), until_us);
        arm(g, l, start_us + due);
        pass(g, l);
        elapsed = now_us(g) - start_us;
        for (int i = 0; i < 2; i++) send_due(g, &plans[i], elapsed, until_us);
        flush_dirty(g, l->epoll);
    }
}

static void drain(run *g, const loop *l) {
    uint32_t end = now_us(g) + (uint32_t)(g->opt.drain_s * 1e6);
    while (outstanding(g) && now_us(g) < end) idle(g, l, 2000);
}

static void print_latency(const char *name, const histogram *h) {
    printf(",\"%s\":{\"count\":%lu,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, h->count,
           h->count ? (double)h->sum_us / (double)h->count / 1e3 : 0, percentile(h, .5) / 1e3, percentile(h, .9) / 1e3,
           percentile(h, .99) / 1e3, (double)h->max_us / 1e3);
}

static void print_result(const run *g, double window_s, double cpu) {
    static histogram updates, entries, by_reach[REACHES], all;
    uint64_t sent = 0, sent_entries = 0, missing, missing_entries;
    for (int way = 0; way < REACHES; way++) {
        add(&updates, &g->update.latency[way]);
        add(&entries, &g->entry.latency[way]);
        add(&by_reach[way], &g->update.latency[way]);
        add(&by_reach[way], &g->entry.latency[way]);
        add(&all, &by_reach[way]);
    }
    for (uint32_t i = 0; i < g->count; i++) {
        sent += g->updates[i].next - g->updates[i].measured_from;
        sent_entries += g->entries[i].next - g->entries[i].measured_from;
    }
    count_missing(g, &missing, &missing_entries);
    printf("{\"event\":\"result\",\"window_s\":%.6f,\"generator_cpu_s\":%.6f", window_s, cpu);
    printf(",\"updates_sent\":%lu,\"entries_sent\":%lu", sent, sent_entries);
    printf(",\"update_deliveries\":%lu,\"entry_deliveries\":%lu", g->update.delivered_measured, g->entry.delivered_measured);
    printf(",\"entries_skipped\":%lu,\"updates_missing\":%lu,\"entries_missing\":%lu", g->entry.skipped_measured, missing, missing_entries);
    printf(",\"updates_overtaken\":%lu", g->overtaken);
    printf(",\"connections_lost\":%u,\"protocol_errors\":%lu", g->lost, g->protocol_errors);
    printf(",\"first_error\":%s%s%s", g->first_error ? "\"" : "", g->first_error ? g->first_error : "null", g->first_error ? "\"" : "");
    printf(",\"acknowledgements\":%lu,\"own_echoes\":%lu", g->acknowledgements, g->update.own_echoes + g->entry.own_echoes);
    printf(",\"frames_in\":%lu,\"bytes_in\":%lu,\"frames_out\":%lu,\"bytes_out\":%lu", g->frames_in, g->bytes_in, g->frames_out, g->bytes_out);
    print_latency("latency_ms", &all);
    print_latency("update_ms", &updates);
    print_latency("entry_ms", &entries);
    print_latency("same_node_ms", &by_reach[SAME_NODE]);
    print_latency("other_node_ms", &by_reach[OTHER_NODE]);
    print_latency("behind_ms", &g->behind);
    printf("}\n");
}

static void measure(run *g, const loop *l) {
    plan plans[2] = {make_plan(g, g->opt.writers, g->opt.update_rate, send_update),
                     make_plan(g, g->opt.clients, g->opt.cursor_rate, send_cursor)};
    uint32_t start = now_us(g);
    if (g->opt.warmup_s > 0) send_all(g, l, plans, start, g->opt.warmup_s * 1e6);
    begin_measuring(g);
    uint64_t began = now_ns();
    double cpu = cpu_s();
    send_all(g, l, plans, start, (g->opt.warmup_s + g->opt.seconds) * 1e6);
    drain(g, l);
    double window_s = (double)(now_ns() - began) / 1e9;
    printf("{\"event\":\"stop\"}\n");
    fflush(stdout);
    cpu = cpu_s() - cpu;
    while (getchar() != '\n' && !feof(stdin)) {}
    print_result(g, window_s, cpu);
}

static void prepare(run *g) {
    options *o = &g->opt;
    double span_s = o->warmup_s + o->seconds + 1;
    g->count = o->rooms * o->clients;
    g->clients = array(g->count, sizeof *g->clients);
    g->updates = array(g->count, sizeof *g->updates);
    g->entries = array(g->count, sizeof *g->entries);
    for (uint32_t i = 0; i < g->count; i++) {
        client *c = &g->clients[i];
        c->room = i / o->clients;
        c->slot = i % o->clients;
        if (o->update_rate > 0) c->update_next = array(o->clients, sizeof *c->update_next);
        if (o->cursor_rate > 0) c->entry_last = array(o->clients, sizeof *c->entry_last);
        g->updates[i].capacity = o->update_rate > 0 && c->slot < o->writers ? (uint32_t)(o->update_rate * span_s) + 16 : 0;
        g->entries[i].capacity = o->cursor_rate > 0 ? (uint32_t)(o->cursor_rate * span_s) + 16 : 0;
        g->updates[i].measured_from = g->entries[i].measured_from = UINT32_MAX;
        g->entries[i].next = 1;                     // y-protocols shows nothing at clock 0
        g->updates[i].sent_us = array(g->updates[i].capacity, sizeof(uint32_t));
        g->entries[i].sent_us = array(g->entries[i].capacity, sizeof(uint32_t));
    }
}

static int perform(options opt) {
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
    connect_all(&g, &l);
    printf("{\"event\":\"synced\",\"clients\":%u,\"seconds\":%.6f}\n", g.count, now_us(&g) / 1e6);
    fflush(stdout);
    idle(&g, &l, SETTLE_US);
    measure(&g, &l);
    return 0;
}

// ---- the self-test: the reader and the maker by themselves, for tests/

static void print_run(void *context, const typing *found) {
    bool *first = context;
    const char *mark = as_made(found) ? "" : "!";
    printf("%s%lu:%lu-%lu%s", *first ? "" : ",", found->client, found->clock, found->clock + found->length, mark);
    *first = false;
}

// Each line of stdin is an update in hex; each line of stdout its runs as client:start-end, those with a "!" behind
// them that hold something else than `make_update` types, or "malformed".
static int selftest(void) {
    static char line[1 << 22];
    static uint8_t data[sizeof line / 2];
    while (fgets(line, sizeof line, stdin)) {
        size_t length = strcspn(line, "\n") / 2;
        for (size_t i = 0; i < length; i++) sscanf(line + 2 * i, "%2hhx", &data[i]);
        bool first = true;
        bool whole = read_update(data, length, print_run, &first);
        printf("%s\n", whole ? "" : "malformed");
    }
    return 0;
}

static int print_made(uint32_t client_id, uint32_t count) {
    uint8_t update[UPDATE_BYTES_MAX];
    for (uint32_t clock = 0; clock < count; clock++) {
        size_t length = make_update(update, client_id, clock);
        for (size_t i = 0; i < length; i++) printf("%02x", update[i]);
        printf("\n");
    }
    return 0;
}

// The ports of the nodes, separated by commas.
static void take_ports(options *o, const char *value) {
    for (o->nodes = 0; *value && o->nodes < NODES_MAX; value += *value == ',') {
        o->ports[o->nodes++] = (int)strtol(value, (char **)&value, 10);
        if (*value && *value != ',') die("ports are numbers, separated by commas");
    }
    if (*value || o->nodes == 0) die("between one port and eight");
}

static bool take(options *o, const char *name, const char *value) {
    double number = atof(value);
    if (!strcmp(name, "--dialect")) o->dialect = strcmp(value, "hocuspocus") ? DIALECT_YWS : DIALECT_HOCUSPOCUS;
    else if (!strcmp(name, "--ports")) take_ports(o, value);
    else if (!strcmp(name, "--path")) o->path = value;
    else if (!strcmp(name, "--run")) o->run = value;
    else if (!strcmp(name, "--rooms")) o->rooms = (uint32_t)number;
    else if (!strcmp(name, "--clients")) o->clients = (uint32_t)number;
    else if (!strcmp(name, "--writers")) o->writers = (uint32_t)number;
    else if (!strcmp(name, "--update-rate")) o->update_rate = number;
    else if (!strcmp(name, "--cursor-rate")) o->cursor_rate = number;
    else if (!strcmp(name, "--warmup")) o->warmup_s = number;
    else if (!strcmp(name, "--seconds")) o->seconds = number;
    else if (!strcmp(name, "--drain")) o->drain_s = number;
    else if (!strcmp(name, "--opening")) o->opening_max = (uint32_t)number;
    else return false;
    return true;
}

int main(int argc, char **argv) {
    options o = {.nodes = 1, .path = "/", .run = "run", .rooms = 1, .clients = 2, .writers = 1, .seconds = 1, .drain_s = 5,
                 .connect_timeout_s = 60, .opening_max = 64};
    if (argc == 2 && !strcmp(argv[1], "--selftest")) return selftest();
    if (argc == 4 && !strcmp(argv[1], "--make")) return print_made((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]));
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc || !take(&o, argv[i], argv[i + 1])) die("an option that is unknown or lacks its value");
    }
    if (o.writers > o.clients || o.clients == 0 || o.rooms == 0) die("writers must be among at least one client");
    return perform(o);
}
