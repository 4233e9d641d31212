/* The rings: those of the program itself, and those of the modules that can be loaded here. */
#include "bench.h"
#include <dlfcn.h>
#include <stdio.h>

extern const struct bench_peer bench_peer_ivgpu, bench_peer_wfcqueue, bench_peer_wfcqueue_spliced;
extern const struct bench_peer bench_peer_unix_stream, bench_peer_unix_seqpacket, bench_peer_pipe, bench_peer_mqueue,
        bench_peer_eventfd;

static const struct bench_peer *const own[] = {
        &bench_peer_wfcqueue, &bench_peer_wfcqueue_spliced, &bench_peer_unix_stream, &bench_peer_unix_seqpacket,
        &bench_peer_pipe,     &bench_peer_mqueue,           &bench_peer_eventfd,
};

/* Each brings the rings of one package, whose libraries a machine may lack. The names are known without it, so that
 * what is absent is told. */
static const struct module {
        const char *path;
        const char *rings[BENCH_MODULE_PEERS_MAX + 1];
} modules[] = {
        {"$ORIGIN/../lib/ivgpu-ring-bench/ck.so", {"ck_ring", "ck_ring spsc", "ck_fifo"}},
        {"$ORIGIN/../lib/ivgpu-ring-bench/dpdk.so", {"rte_ring mp", "rte_ring hts", "rte_ring rts"}},
};

#define MODULES (sizeof(modules) / sizeof(modules[0]))
#define OWN (sizeof(own) / sizeof(own[0]))
#define REASON_BYTES 256u

const struct bench_peer *bench_peers[1 + OWN + MODULES * BENCH_MODULE_PEERS_MAX];
uint32_t bench_peers_count;
struct bench_absent bench_absent[MODULES * BENCH_MODULE_PEERS_MAX];
uint32_t bench_absent_count;

static const struct bench_peer *find(const struct bench_peer *const *peers, const char *name)
{
        for (; *peers; peers++)
                if (strcmp((*peers)->name, name) == 0)
                        return *peers;
        return NULL;
}

static void load(const struct module *module, char reason[REASON_BYTES])
{
        static const struct bench_peer *const none[] = {NULL};
        void *library = dlopen(module->path, RTLD_NOW | RTLD_LOCAL);
        const struct bench_peer *const *peers = library ? dlsym(library, BENCH_MODULE_PEERS) : NULL;

        snprintf(reason, REASON_BYTES, "%s", peers ? "not in its module" : dlerror());
        for (const char *const *name = module->rings; *name; name++) {
                const struct bench_peer *peer = find(peers ? peers : none, *name);

                if (peer)
                        bench_peers[bench_peers_count++] = peer;
                else
                        bench_absent[bench_absent_count++] = (struct bench_absent){.ring = *name, .reason = reason};
        }
}

void bench_peers_load(void)
{
        static char reasons[MODULES][REASON_BYTES];

        bench_peers[bench_peers_count++] = &bench_peer_ivgpu;
        for (uint32_t i = 0; i < MODULES; i++)
                load(&modules[i], reasons[i]);
        for (uint32_t i = 0; i < OWN; i++)
                bench_peers[bench_peers_count++] = own[i];
}
