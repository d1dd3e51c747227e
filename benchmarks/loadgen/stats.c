#include "stats.h"

static uint64_t upper_edge(uint32_t index) {
    if (index < STEPS) return index;
    uint32_t shift = index / (STEPS / 2) - 1, step = index % (STEPS / 2) + STEPS / 2;
    return (((uint64_t)step + 1) << shift) - 1;
}

void add(histogram *h, const histogram *other) {
    for (uint32_t i = 0; i < BUCKETS; i++) h->buckets[i] += other->buckets[i];
    h->count += other->count;
    h->sum_us += other->sum_us;
    if (other->max_us > h->max_us) h->max_us = other->max_us;
}

double percentile(const histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] && seen >= wanted) return (double)(upper_edge(i) < h->max_us ? upper_edge(i) : h->max_us);
    }
    return (double)h->max_us;
}
