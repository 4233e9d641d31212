#!/bin/bash
# ivgpud is killed while a guest's program runs: the program ends with an error soon, its executor too, and a program
# started afterwards is told that there is no mediator. Nothing hangs. Where a service manager keeps QEMU's descriptors and
# starts ivgpud again, the next program works: the VM runs on. usage: mediator_absent.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
build=$(realpath "$1")
vm_require
vm_work
vm_start_mediator "$build" managed

cat > "$work/job" <<JOB
export LD_LIBRARY_PATH=$build/lib/ivgpu
cd /
$build/tests/cuda/launch_rate 1000000000 > /tmp/out 2>&1 & program=\$!
echo MARK-running
wait \$program; echo "MARK-ended with \$?"
sed 's/^/RUNNING /' /tmp/out
begin=\$(date +%s%3N)
timeout 30 $build/tests/cuda/demo > /tmp/late 2>&1; status=\$?
echo "MARK-late ended with \$status after \$((\$(date +%s%3N) - begin)) ms"
sed 's/^/LATE /' /tmp/late
echo MARK-told
for attempt in \$(seq 40); do
        timeout 200 $build/tests/cuda/demo > /tmp/again 2>&1; status=\$?
        [ \$status -eq 0 ] && break
        sleep 0.5
done
echo "MARK-again ended with \$status"
sed 's/^/AGAIN /' /tmp/again
JOB
vm_boot guest "$work/job"
vm_wait_line 40 guest MARK-running
vm_wait_for 10 executors_are 1
sleep 1 # it launches
executor=$(executors)

begin=$(milliseconds)
kill -KILL "$mediator_pid"
vm_wait_line 10 guest MARK-ended
took=$(($(milliseconds) - begin))
[[ $took -le 10000 ]] || fail "the program ended only after $took ms"
if vm_console_says guest "MARK-ended with 0"; then fail "the program succeeded"; fi
executor_is_gone() { ! kill -0 "$executor" 2> /dev/null; }
vm_wait_for 3 executor_is_gone
vm_wait_line 40 guest MARK-told
vm_start_mediator_again
vm_join guest
late=$(sed -n 's/.*MARK-late ended with \([0-9]*\) after.*/\1/p' "$work/guest.console")
[[ $late != 0 && $late != 124 ]] || fail "the late program ended with $late"
vm_console_says guest "RUNNING .*MEDIATOR_UNAVAILABLE" || fail "the running program's words lack MEDIATOR_UNAVAILABLE"
vm_console_says guest "LATE .*MEDIATOR_UNAVAILABLE" || fail "the late program's words lack MEDIATOR_UNAVAILABLE"
vm_console_says guest "MARK-again ended with 0" || fail "no program works after ivgpud's restart"
grep -q "is connected as before ivgpud's start: 256 MiB, 6 channels, 7 vectors" "$work/ivgpud.log" || fail "ivgpud does not say that it has its QEMU again"
echo "mediator_absent: OK (the program ended $took ms after ivgpud)"
