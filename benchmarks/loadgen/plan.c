#include "plan.h"

#include <math.h>
#include <stdlib.h>

static uint32_t next_random(void) {
    static uint64_t state = 0x853c49e6748fea9bu;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int by_phase(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void make_plan(const run *g, plan *p, uint32_t senders_a_room, double rate) {
    uint32_t without = g->opt.use == PASTE ? 1 : 0;     // nobody types in the room that is pasted into
    p->count = rate > 0 ? (g->opt.rooms - without) * senders_a_room : 0;
    if (p->count == 0) return;
    p->interval_us = 1e6 / rate;
    p->order = array(p->count, sizeof *p->order);
    p->phase_us = array(p->count, sizeof *p->phase_us);
    for (uint32_t i = 0; i < p->count; i++) {
        p->order[i] = (i / senders_a_room + without) * g->opt.clients + i % senders_a_room;
        p->phase_us[i] = p->interval_us * next_random() / 2147483648.0;
    }
    for (uint32_t i = p->count - 1; i > 0; i--) {
        uint32_t j = next_random() % (i + 1), kept = p->order[i];
        p->order[i] = p->order[j];
        p->order[j] = kept;
    }
    qsort(p->phase_us, p->count, sizeof *p->phase_us, by_phase);
}

static void paste(run *g, client *c) {
    if (g->pasted < g->opt.document.pieces && c->phase != CLOSED) send_piece(g, c, g->pasted++);
}

// One piece a second, the first half a second after the measuring began.
static void make_pasting(const run *g, plan *p) {
    if (g->opt.use != PASTE) return;
    p->count = 1;
    p->interval_us = 1e6;
    p->order = array(1, sizeof *p->order);
    p->phase_us = array(1, sizeof *p->phase_us);
    p->phase_us[0] = g->opt.warmup_s * 1e6 + 5e5;
}

void make_plans(run *g, plan plans[PLANS]) {
    plans[TYPING] = (plan){.send = send_update};
    plans[MOVING] = (plan){.send = send_cursor};
    plans[PASTING] = (plan){.send = paste};
    make_plan(g, &plans[TYPING], g->opt.writers, g->opt.update_rate);
    make_plan(g, &plans[MOVING], g->opt.clients - g->opt.late, g->opt.cursor_rate);
    make_pasting(g, &plans[PASTING]);
}

static double due_us(const plan *p) {
    if (p->count == 0) return INFINITY;
    return p->phase_us[p->turn % p->count] + p->interval_us * (double)(p->turn / p->count);
}

double next_due_us(const plan plans[PLANS]) {
    double due = INFINITY;
    for (int i = 0; i < PLANS; i++) due = fmin(due, due_us(&plans[i]));
    return due;
}

void send_due(run *g, plan plans[PLANS], double elapsed_us, double until_us) {
    for (plan *p = plans; p < plans + PLANS; p++) {
        for (double due = due_us(p); due <= elapsed_us && due < until_us; due = due_us(p)) {
            if (p->send != paste) observe(&g->behind, (uint32_t)(elapsed_us - due));
            p->send(g, &g->clients[p->order[p->turn++ % p->count]]);
        }
    }
}
