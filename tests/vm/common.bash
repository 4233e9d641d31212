# Sourced by the tests in this folder: what they need, a private directory, expectations with words, clean-up.
here=${here:?}
run_guest=$here/../../tools/vm/run-guest
owned_pids=()
owned_folders=()

# Exit code 77 is "skipped": something this machine lacks, named.
vm_require() {
        local need
        for need in qemu-system-x86_64 busybox cpio; do
                command -v "$need" > /dev/null || { echo "skipped: no $need on this machine"; exit 77; }
        done
        compgen -G "/boot/vmlinuz-*-cloud-amd64" > /dev/null || { echo "skipped: no cloud kernel in /boot"; exit 77; }
        [[ -x /usr/lib/qemu/virtiofsd ]] || { echo "skipped: no virtiofsd"; exit 77; }
        [[ $(id -u) -eq 0 ]] || { echo "skipped: virtiofsd's sandbox needs root"; exit 77; }
}

vm_work() {
        work=$(mktemp -d "${TMPDIR:-/tmp}/ivgpu-vmtest.XXXXXX")
        trap vm_cleanup EXIT
}

vm_own() {
        owned_pids+=("$1")
}

vm_own_folder() {
        owned_folders+=("$1")
}

vm_cleanup() {
        local pid
        for pid in "${owned_pids[@]}"; do
                kill -TERM "$pid" 2> /dev/null || true
                wait "$pid" 2> /dev/null || true
        done
        rm -rf "$work" "${owned_folders[@]}"
}

# Ends the test: its reason first and last, between them what guest and mediator said.
fail() {
        local file
        echo "FAILED: $*" >&2
        for file in "$work"/*.console "$work"/*.log; do
                [[ -s $file ]] && { echo "---- $(basename "$file"), last lines"; tail -40 "$file"; } >&2
        done
        echo "FAILED: $*" >&2
        exit 1
}

# vm_wait_for SECONDS COMMAND...: until it succeeds; a failure names the command. SECONDS is what it takes at most on a
# machine of its own; a loaded one gets four times that.
vm_wait_for() {
        local seconds=$(($1 * 4)) end
        shift
        end=$(($(date +%s%3N) + seconds * 1000))
        until "$@"; do
                [[ $(date +%s%3N) -le $end ]] || fail "not within $seconds s: $*"
                sleep 0.05
        done
}

expect_equal() {
        [[ $1 == "$2" ]] || fail "$3: got '$1', expected '$2'"
}

expect_match() {
        [[ $1 =~ $2 ]] || fail "$3: '$1' does not match '$2'"
}
