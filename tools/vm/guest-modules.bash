# Sourced: which kernel a test guest boots, and which of its modules guest-init loads.
guest_modules=(drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
        drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci fs/fuse/fuse fs/fuse/virtiofs)

# newest_cloud_kernel [PREFIX]: its version, or nothing.
newest_cloud_kernel() {
        local files=("${1-}"/boot/vmlinuz-*-cloud-amd64)
        [[ -e ${files[0]} ]] || return 0
        printf '%s\n' "${files[@]##*/vmlinuz-}" | sort -V | tail -1
}

# copy_guest_modules FROM TO: plain files, whether FROM has them plain or compressed; what is built into the kernel needs none.
copy_guest_modules() {
        local module file
        for module in "${guest_modules[@]}"; do
                file=$1/kernel/$module.ko
                if [[ -r $file ]]; then
                        cp "$file" "$2/"
                elif [[ -r $file.xz ]]; then
                        xz -dc "$file.xz" > "$2/$(basename "$file")"
                elif [[ $module == */virtio_pci_*_dev && -n $(find "$1/kernel/drivers/virtio" -name "virtio_pci.ko*") ]]; then
                        : # kernels before 5.16 have both in virtio_pci
                elif ! grep -qx "kernel/$module.ko" "$1/modules.builtin"; then
                        echo "$1 has no module $module" >&2
                        return 1
                fi
        done
}
