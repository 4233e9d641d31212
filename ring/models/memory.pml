/* Memory as x86 has it (TSO): each processor's stores wait in a first-in, first-out buffer of its own, from which its own
 * loads are served, and reach memory some time later. A locked instruction (exchange) and a full barrier wait until the
 * buffer is empty. Loads are not reordered. What a weaker machine or a compiler may do beyond that is shown by variants
 * that swap two statements.
 *
 * Who includes this has defined CPUS, WORDS and, if three pending stores are too few, DEPTH. Processes 0 .. CPUS-1 are
 * the buffers themselves, so `cpu` in the models is a number that the model gives its own processes. */
#ifndef DEPTH
#define DEPTH 3
#endif
/* May a pending store of `cpu` reach memory by itself now? Where nobody could look, it need not: the locked instruction
 * that empties the buffer, or a full buffer, comes to the same. */
#ifndef DRAINS
#define DRAINS(cpu) true
#endif

typedef store_buffer_t {
        byte count;
        byte word[DEPTH];
        byte value[DEPTH]
};
store_buffer_t pending[CPUS];
byte memory[WORDS];
hidden byte scan; /* used inside d_step alone */

/* A plain, relaxed or release store: all the same on this machine. put() and load_in() go into a d_step; store() and
 * load() are steps of their own, and store() waits while the buffer is full. */
inline put(cpu, w, v)
{
        pending[cpu].word[pending[cpu].count] = w;
        pending[cpu].value[pending[cpu].count] = v;
        pending[cpu].count++
}

inline store(cpu, w, v)
{
        d_step { pending[cpu].count < DEPTH -> put(cpu, w, v) }
}

/* Any load: the newest of one's own pending stores, else memory. */
inline load_in(cpu, w, to)
{
        to = memory[w];
        scan = 0;
        do
        :: scan < pending[cpu].count ->
                if
                :: pending[cpu].word[scan] == (w) -> to = pending[cpu].value[scan]
                :: else
                fi;
                scan++
        :: else -> break
        od;
        scan = 0
}

inline load(cpu, w, to)
{
        d_step { load_in(cpu, w, to) }
}

/* A store and a full barrier, or an exchange, which is both: one step, since a processor does nothing between the two. */
inline exchange(cpu, w, v)
{
        d_step { pending[cpu].count == 0 -> memory[w] = v }
}

/* All pending stores reach memory: what a locked instruction does first. Inside a d_step only. */
inline drain(cpu)
{
        scan = 0;
        do
        :: scan < pending[cpu].count ->
                memory[pending[cpu].word[scan]] = pending[cpu].value[scan];
                pending[cpu].word[scan] = 0; /* equal states are to look equal */
                pending[cpu].value[scan] = 0;
                scan++
        :: else -> break
        od;
        pending[cpu].count = 0;
        scan = 0
}

active [CPUS] proctype store_buffer()
{
end:    do
        :: d_step {
                pending[_pid].count > 0 && (DRAINS(_pid) || pending[_pid].count == DEPTH) ->
                memory[pending[_pid].word[0]] = pending[_pid].value[0];
                scan = 1;
                do
                :: scan < pending[_pid].count ->
                        pending[_pid].word[scan - 1] = pending[_pid].word[scan];
                        pending[_pid].value[scan - 1] = pending[_pid].value[scan];
                        scan++
                :: else -> break
                od;
                pending[_pid].count--;
                pending[_pid].word[pending[_pid].count] = 0; /* equal states are to look equal */
                pending[_pid].value[pending[_pid].count] = 0;
                scan = 0
        }
        od
}
