/* kernels.ptx as a NUL-terminated string; IVG_KERNELS_PTX is its path. */
extern const char test_kernels_ptx[];
__asm__(".section .rodata\n"
        ".global test_kernels_ptx\n"
        ".type test_kernels_ptx, @object\n"
        "test_kernels_ptx:\n"
        ".incbin \"" IVG_KERNELS_PTX "\"\n"
        ".byte 0\n"
        ".size test_kernels_ptx, .-test_kernels_ptx\n"
        ".previous\n");
