/* Concurrency Kit's rings. They are inlined; the package is needed where this is built. */
#include "bench.h"

extern const struct bench_peer bench_peer_ck_ring, bench_peer_ck_ring_spsc, bench_peer_ck_fifo;

BENCH_DEFINE_MODULE(&bench_peer_ck_ring, &bench_peer_ck_ring_spsc, &bench_peer_ck_fifo);
