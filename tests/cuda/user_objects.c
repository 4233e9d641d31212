/* User objects: the destructor runs once, in this process, when program, graphs, clones and instances have let go. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct thing {
        _Atomic(int) destroyed;
        pthread_t thread;
};

static void destroy(void *data)
{
        struct thing *thing = data;
        thing->thread = pthread_self();
        atomic_fetch_add(&thing->destroyed, 1);
}

static void sleep_ms(unsigned ms)
{
        const struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
        nanosleep(&pause, NULL);
}

/* CUDA names no call that waits for a destructor. */
static void expect_destroyed(const struct thing *thing, const char *why)
{
        for (int i = 0; i < 1000 && thing->destroyed == 0; i++)
                sleep_ms(5);
        CHECK(thing->destroyed == 1, "%s: destroyed %d times", why, thing->destroyed);
        CHECK(!pthread_equal(thing->thread, (pthread_t){0}), "%s: no thread", why);
}

static void expect_alive(const struct thing *thing, const char *why)
{
        sleep_ms(30);
        CHECK(thing->destroyed == 0, "%s: destroyed", why);
}

static CUuserObject new_object(struct thing *thing, unsigned references)
{
        CUuserObject object;
        CU(cuUserObjectCreate(&object, thing, destroy, references, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
        return object;
}

static void counted_by_the_program(void)
{
        static struct thing thing;
        CUuserObject object = new_object(&thing, 2);
        CU(cuUserObjectRetain(object, 3));
        CU(cuUserObjectRelease(object, 4));
        expect_alive(&thing, "one reference is left");
        CU(cuUserObjectRelease(object, 1));
        expect_destroyed(&thing, "the last reference");
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE,
                  cuUserObjectCreate(&object, &thing, destroy, 0, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
        CU_EXPECT(CUDA_ERROR_INVALID_VALUE, cuUserObjectCreate(&object, &thing, destroy, 1, 0));
}

static void sleep_run(void *data)
{
        sleep_ms(*(unsigned *)data);
}

static void held_by_graphs(void)
{
        static struct thing moved, shared, launched;
        static unsigned ms = 100;
        CUgraph graph, clone;
        CUgraphExec exec;
        CUgraphNode node;
        CUstream stream;
        const CUDA_HOST_NODE_PARAMS host = {.fn = sleep_run, .userData = &ms};
        CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CU(cuGraphCreate(&graph, 0));
        CU(cuGraphAddHostNode(&node, graph, NULL, 0, &host));
        CUuserObject object = new_object(&moved, 1);
        CU(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
        CUuserObject other = new_object(&shared, 1);
        CU(cuGraphRetainUserObject(graph, other, 2, 0));
        CU(cuUserObjectRelease(other, 1));
        CU(cuGraphReleaseUserObject(graph, other, 1));
        expect_alive(&shared, "the graph has one reference");
        CU(cuGraphReleaseUserObject(graph, other, 1));
        expect_destroyed(&shared, "released by the graph");

        /* A clone and an instance have references of their own. */
        CU(cuGraphClone(&clone, graph));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphDestroy(graph));
        expect_alive(&moved, "the clone and the instance have it");
        CU(cuGraphDestroy(clone));
        expect_alive(&moved, "the instance has it");
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        CU(cuGraphExecDestroy(exec));
        expect_destroyed(&moved, "graph, clone and instance are gone");

        /* What is under way keeps it. */
        CU(cuGraphCreate(&graph, 0));
        CU(cuGraphAddHostNode(&node, graph, NULL, 0, &host));
        object = new_object(&launched, 1);
        CU(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
        CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CU(cuGraphDestroy(graph));
        CU(cuGraphLaunch(exec, stream));
        CU(cuStreamSynchronize(stream));
        expect_alive(&launched, "the instance has it");
        CU(cuGraphExecDestroy(exec));
        expect_destroyed(&launched, "the instance is gone");
        CU(cuStreamDestroy_v2(stream));
}

/* Far more than live at a time. */
static void many(void)
{
        static struct thing things[500];
        for (int i = 0; i < 500; i++) {
                CUuserObject object = new_object(&things[i], 1);
                CU(cuUserObjectRelease(object, 1));
        }
        for (int i = 0; i < 500; i++)
                expect_destroyed(&things[i], "one of many");
}

int main(void)
{
        test_context();
        counted_by_the_program();
        held_by_graphs();
        many();
        puts("user objects: right");
        return 0;
}
