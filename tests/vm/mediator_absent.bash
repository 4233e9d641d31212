#!/bin/bash
# ivgpud is killed while a guest's program runs: the program ends with an error soon, its executor too, and a program
# started afterwards is told that there is no mediator. Nothing hangs. usage: mediator_absent.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
build=$(realpath "$1")
vm_require
vm_work
vm_start_mediator "$build"

cat > "$work/job" <<JOB
export LD_LIBRARY_PATH=$build/lib/ivgpu
cd /
$build/tests/cuda/launch_rate 1000000000 > /tmp/out 2>&1 & program=\$!
sleep 1.5; echo MARK-running
wait \$program; echo "MARK-ended with \$?"
sed 's/^/RUNNING /' /tmp/out
begin=\$(date +%s%3N)
timeout 30 $build/tests/cuda/demo > /tmp/late 2>&1; status=\$?
echo "MARK-late ended with \$status after \$((\$(date +%s%3N) - begin)) ms"
sed 's/^/LATE /' /tmp/late
JOB
vm_boot guest "$work/job"
vm_wait_line 40 guest MARK-running
executor=$(executors)

begin=$(milliseconds)
kill -KILL "$mediator_pid"
vm_wait_line 10 guest MARK-ended
took=$(($(milliseconds) - begin))
[[ $took -le 2500 ]] || fail "the program ended only after $took ms"
if vm_console_says guest "MARK-ended with 0"; then fail "the program succeeded"; fi
executor_is_gone() { ! kill -0 "$executor" 2> /dev/null; }
vm_wait_for 3 executor_is_gone
vm_join guest
late=$(sed -n 's/.*MARK-late ended with \([0-9]*\) after.*/\1/p' "$work/guest.console")
[[ $late != 0 && $late != 124 ]] || fail "the late program ended with $late"
vm_console_says guest "RUNNING .*MEDIATOR_UNAVAILABLE" || fail "the running program's words lack MEDIATOR_UNAVAILABLE"
vm_console_says guest "LATE .*MEDIATOR_UNAVAILABLE" || fail "the late program's words lack MEDIATOR_UNAVAILABLE"
echo "mediator_absent: OK (the program ended $took ms after ivgpud)"
