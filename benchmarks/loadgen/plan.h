// Who sends when: random phases from a fixed seed, the same for every server.
#ifndef PLAN_H
#define PLAN_H

#include "loadgen.h"

// Every source of one kind, in the order of its turns; all share one interval, each has its own phase in it.
typedef struct {
    uint32_t *order, count;
    double *phase_us, interval_us;
    uint64_t turn;
    void (*send)(run *g, client *c);
} plan;

enum { TYPING, MOVING, PASTING, PLANS };

void make_plans(run *g, plan plans[PLANS]);

// When the next of all plans is due, in microseconds after their beginning; infinity when none is.
double next_due_us(const plan plans[PLANS]);

// Sends what is due by `elapsed_us`, and nothing that is due at `until_us` or later.
void send_due(run *g, plan plans[PLANS], double elapsed_us, double until_us);

#endif
