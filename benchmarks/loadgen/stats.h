// A histogram of latencies in microseconds: 64 steps an octave, so a percentile is right within 1.6 %.
#ifndef STATS_H
#define STATS_H

#include <stdint.h>

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = STEPS / 2 * (32 - STEP_BITS + 2) };

typedef struct {
    uint64_t count, sum_us, max_us;
    uint64_t buckets[BUCKETS];
} histogram;

static inline void observe(histogram *h, uint32_t us) {
    int shift = us < STEPS ? 0 : 31 - __builtin_clz(us) - STEP_BITS + 1;
    h->buckets[(uint32_t)shift * (STEPS / 2) + (us >> shift)]++;
    h->count++;
    h->sum_us += us;
    if (us > h->max_us) h->max_us = us;
}

// Takes in everything the other has seen.
void add(histogram *h, const histogram *other);

// The latency in microseconds that a share (0 to 1) of the observations stay at or below; 0 when there are none.
double percentile(const histogram *h, double share);

#endif
