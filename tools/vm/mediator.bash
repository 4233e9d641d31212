# Sourced by the VM scripts: a private ivgpud with one VM on the soft GPU.
#   start_mediator BUILD [DEVICE]   sets $work, $vm_socket, $mediator_pid
#   stop_mediator                   ends it in order and waits
#   show_mediator_stats             prints its [MEDIATOR STATS] block
work=$(mktemp -d "${TMPDIR:-/tmp}/ivgpu-vm.XXXXXX")
mediator_pid=
vm_socket=$work/vm1.sock
_mediator_cleanup() {
        if [[ -n $mediator_pid ]]; then kill -TERM "$mediator_pid" 2>/dev/null || true; wait "$mediator_pid" 2>/dev/null || true; fi
        rm -rf "$work"
}
trap _mediator_cleanup EXIT

start_mediator() {
        local build=$1 device=${2:-soft}
        cat > "$work/ivgpud.conf" <<EOF
mediator = { device = "$device"; };
pools = ( { name = "A"; gpus = [ 0 ]; } );
vms = ( { vm_id = 1; name = "demo"; pool = "A"; priority = "high"; weight = 10; socket = "$vm_socket"; region_mib = 1024; channels = 15; vectors = 16; } );
control = { socket = "$work/control.sock"; };
EOF
        "$build/bin/ivgpud" --config "$work/ivgpud.conf" --foreground > "$work/ivgpud.log" 2>&1 &
        mediator_pid=$!
        for _ in $(seq 100); do
                grep -q "listening on $work/control.sock" "$work/ivgpud.log" && return 0 # said when all of them do
                kill -0 "$mediator_pid" 2>/dev/null || break
                sleep 0.05
        done
        cat "$work/ivgpud.log" >&2
        echo "ivgpud did not offer $vm_socket within 5 s" >&2
        return 1
}

stop_mediator() {
        kill -TERM "$mediator_pid" 2>/dev/null || true
        wait "$mediator_pid" || echo "ivgpud ended with $?" >&2
        mediator_pid=
}

show_mediator_stats() {
        awk '/\[MEDIATOR STATS\]/ { text = "" ; on = 1 } on { text = text $0 "\n" } END { printf "%s", text }' "$work/ivgpud.log"
}
