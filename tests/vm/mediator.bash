# Sourced after common.bash: a private ivgpud with one VM on the soft GPU, guests booted beside the test, and what the
# tests ask about both. The mediator's own files lie in $work, what a guest must see in $shared (read-only there).
# With a second word "managed" a stand-in of systemd starts it, and again after vm_start_mediator_again.
vm_start_mediator() {
        local build=$1 how=${2-} program
        for program in bin/ivgpud bin/ivgpu-exec lib/ivgpu/libcuda.so.1 tests/cuda/demo tests/cuda/launch_rate; do
                [[ -e $build/$program ]] || fail "$build/$program is not built"
        done
        vm_socket=$work/vm1.sock
        shared=$(mktemp -d "$build/tests/vm-shared.XXXXXX")
        vm_own_folder "$shared"
        cat > "$work/ivgpud.conf" <<CONF
mediator = { device = "soft"; };
pools = ( { name = "A"; } );
vms = ( { vm_id = 1; name = "vm1"; pool = "A"; priority = "high"; weight = 10; socket = "$vm_socket"; region_mib = 256;
          channels = 6; vectors = 7; } );
control = { socket = "$work/control.sock"; };
CONF
        : > "$work/ivgpud.log" # of an earlier one
        if [[ $how == managed ]]; then
                "$here/service_manager.py" "$work/manager" "$build/bin/ivgpud" --config "$work/ivgpud.conf" --foreground >> "$work/ivgpud.log" 2>&1 &
                vm_own $!
                vm_wait_for 5 test -s "$work/manager/pid"
                mediator_pid=$(cat "$work/manager/pid")
        else
                "$build/bin/ivgpud" --config "$work/ivgpud.conf" --foreground >> "$work/ivgpud.log" 2>&1 &
                mediator_pid=$!
                vm_own "$mediator_pid"
        fi
        vm_wait_for 5 grep -q "listening on $work/control.sock" "$work/ivgpud.log" # said when all of them do
}

# When its executors are gone, as systemd waits for that.
vm_start_mediator_again() {
        touch "$work/manager/again"
}

# The beginning of a job whose steps wait for the host's: "await WORD" in the guest goes on after "vm_go WORD" here. A test
# that looks at what a guest does lets it wait meanwhile, for no pause is long enough on every machine.
vm_job_awaits() {
        echo "shared=$shared"
        echo 'await() { while [ ! -e $shared/$1 ]; do sleep 0.1; done; }'
}

vm_go() {
        touch "$shared/$1"
}

# vm_boot NAME JOB [run-guest's options]: boots in the background; console in $work/NAME.console, QEMU in $work/NAME.pid.
# The guest has the kernel driver where that is built; IVGPU_TEST_DRIVER=none boots it without (programs use sysfs).
vm_boot() {
        local name=$1 job=$2 module=()
        shift 2
        [[ -e $build/guest/kmod/ivgpu.ko && ${IVGPU_TEST_DRIVER-} != none ]] && module=(--driver "$build/guest/kmod/ivgpu.ko")
        "$run_guest" ${IVGPU_TEST_KERNEL:+--kernel "$IVGPU_TEST_KERNEL"} --socket "$vm_socket" --vectors 7 --memory 1024 --timeout 440 --pidfile "$work/$name.pid" --show "$build" "${module[@]}" "$@" \
                "$job" > "$work/$name.console" 2>&1 &
        guest_pid=$!
        vm_own "$guest_pid"
}

# vm_join NAME: waits for the guest's end; its script's exit code in $guest_status.
vm_join() {
        guest_status=0
        wait "$guest_pid" || guest_status=$?
        cat "$work/$1.console"
}

vm_console_says() {
        grep -q -- "$2" "$work/$1.console"
}

# Waits for a line of the guest's script; a guest that ended without it fails the test with its console. SECONDS is what
# an emulated guest takes at most on a machine of its own; a loaded one gets four times that.
vm_wait_line() {
        local seconds=$(($1 * 4)) name=$2 line=$3 end
        end=$((SECONDS + seconds))
        until vm_console_says "$name" "$line"; do
                if [[ $SECONDS -gt $end ]] || ! kill -0 "$guest_pid" 2> /dev/null; then
                        fail "the guest did not say '$line' within $seconds s"
                fi
                sleep 0.05
        done
}

# Their process numbers; ivgpu-images, the mediator's other child, is none of them.
executors() {
        pgrep -x -P "$mediator_pid" ivgpu-exec
}

executors_count() {
        executors | wc -l || true
}

executors_are() {
        [[ $(executors_count) -eq $1 ]]
}

# The inode of the region that the mediator holds for its VM (another one is another, clean memory); nothing: no region.
region_inode() {
        local fd
        for fd in /proc/"$mediator_pid"/fd/*; do
                if [[ $(readlink "$fd") == *memfd:ivgpu-region* ]]; then
                        stat -L -c %i "$fd"
                        return 0
                fi
        done
        return 0
}

milliseconds() {
        date +%s%3N
}
