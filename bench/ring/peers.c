/* The rings of this build. */
#include "bench.h"

extern const struct bench_peer bench_peer_ivgpu;
extern const struct bench_peer bench_peer_ck_ring, bench_peer_ck_ring_spsc, bench_peer_ck_fifo;
extern const struct bench_peer bench_peer_rte_ring_mp, bench_peer_rte_ring_hts, bench_peer_rte_ring_rts;
extern const struct bench_peer bench_peer_wfcqueue, bench_peer_wfcqueue_spliced;
extern const struct bench_peer bench_peer_unix_stream, bench_peer_unix_seqpacket, bench_peer_pipe, bench_peer_mqueue,
        bench_peer_eventfd;

const struct bench_peer *const bench_peers[] = {
        &bench_peer_ivgpu,
#ifdef BENCH_HAS_CK
        &bench_peer_ck_ring,     &bench_peer_ck_ring_spsc,     &bench_peer_ck_fifo,
#endif
#ifdef BENCH_HAS_DPDK
        &bench_peer_rte_ring_mp, &bench_peer_rte_ring_hts,     &bench_peer_rte_ring_rts,
#endif
        &bench_peer_wfcqueue,    &bench_peer_wfcqueue_spliced, &bench_peer_unix_stream,  &bench_peer_unix_seqpacket,
        &bench_peer_pipe,        &bench_peer_mqueue,           &bench_peer_eventfd,
};
const uint32_t bench_peers_count = sizeof(bench_peers) / sizeof(bench_peers[0]);
