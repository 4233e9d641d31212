# Sourced after mediator.bash by the kernel driver's tests: guests that have the driver, and a user in its group.
driver=
qmp=$here/qmp.py
# Programs of this user and group stand for anybody whom the udev rule lets in; the rule's part is played by kmod_admit.
as_user='setpriv --reuid=65534 --regid=4242 --clear-groups --no-new-privs'

kmod_require() {
        local build=$1
        driver=$build/guest/kmod/ivgpu.ko
        [[ -e $driver ]] || { echo "skipped: no guest driver in this build: kernel headers are missing"; exit 77; }
        [[ -x $build/tests/kmod_guest ]] || fail "$build/tests/kmod_guest is not built"
}

# The beginning of every job: who may, where things are, and what the end of every job asks.
kmod_job() {
        cat << JOB
export LD_LIBRARY_PATH=$build/lib/ivgpu
bin=$build/tests/cuda
kmod=$build/tests/kmod_guest
as_user='$as_user'
attributes=/sys/class/ivgpu/ivgpu0
cd /
kmod_admit() { chgrp 4242 /dev/ivgpu0 && chmod 660 /dev/ivgpu0; }
kmod_now() { cat \$attributes/\$1; }
# kmod_settle SECONDS: until no channel and no extent is anybody's.
kmod_settle() {
        for _ in \$(seq \$((\$1 * 20))); do
                [ "\$(kmod_now channels_in_use) \$(kmod_now channels_draining) \$(kmod_now extents_in_use) \$(kmod_now extents_kept) \$(kmod_now extents_pinned)" = "0 0 0 0 0" ] && { echo MARK-settled; return 0; }
                sleep 0.05
        done
        echo "FAILED: left after \$1 s:"; grep . \$attributes/channels* \$attributes/extents*
        return 1
}
# The kernel's own complaints: nothing in this test may bring one about.
kmod_kernel_is_content() {
        if dmesg | grep -E "BUG|WARNING|Poison overwritten|Redzone|KFENCE|UBSAN|Oops|Call Trace|KASAN|rcu.*stall|hung task|list_(add|del) corruption|Bad (page|rss)|possible.*deadlock"; then
                dmesg | tail -60; echo "FAILED: the kernel complains"; return 1
        fi
}
kmod_admit
JOB
}

# With what a stock kernel has for finding misuse of memory: freed objects are poisoned, their surroundings watched.
kmod_boot() {
        local name=$1 job=$2
        shift 2
        vm_boot "$name" "$job" --driver "$driver" --append "slub_debug=FZPU kfence.sample_interval=100" "$@"
}

# qmp COMMAND [ARGUMENTS as JSON]
kmod_qmp() {
        python3 "$qmp" "$work/qmp.sock" "$@"
}

# The device out of a guest with --qmp, and into it again.
kmod_unplug() {
        kmod_qmp device_del '{"id": "iv0"}'
        # The chardev is free once the guest has let go of the device.
        vm_wait_for 20 kmod_qmp chardev-remove '{"id": "iv"}' 2> /dev/null
}
kmod_plug() {
        kmod_qmp chardev-add '{"id": "iv", "backend": {"type": "socket", "data": {"server": false, "addr": {"type": "unix", "data": {"path": "'"$vm_socket"'"}}}}}'
        kmod_qmp device_add '{"driver": "ivshmem-doorbell", "id": "iv0", "chardev": "iv", "vectors": 7, "bus": "rp1"}'
}

# User and system time of a process in clock ticks.
cpu_ticks() {
        awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"
}
