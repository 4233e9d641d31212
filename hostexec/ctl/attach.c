#include "attach.h"
#include <stdio.h>
#include <string.h>

/* A root port's window of that much does not fit below 4 GiB: firmware places the region above, where a guest's kernel
 * maps it write-back. A larger region needs its own size. */
#define WINDOW_MIB_MIN 4096u

static uint32_t window_mib(const struct ivg_attachment *vm)
{
        return vm->region_mib > WINDOW_MIB_MIN ? vm->region_mib : WINDOW_MIB_MIN;
}

/* ---- QEMU ---- */

/* One word for a shell, and for QEMU, which ends a value at a comma that is not doubled. */
static void qemu_path_print(const char *path)
{
        for (; *path; path++)
                if (*path == '\'')
                        fputs("'\\''", stdout);
                else
                        printf(*path == ',' ? ",%c" : "%c", *path);
}

static void qemu_print(const struct ivg_attachment *vm)
{
        const bool plain =
                vm->socket[strspn(vm->socket,
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._,+-")] == '\0';

        printf("-device pcie-root-port,id=ivgpu-port,chassis=71,slot=71,pref64-reserve=%uM\n", window_mib(vm));
        printf("-chardev %ssocket,id=ivgpu,path=", plain ? "" : "'");
        qemu_path_print(vm->socket);
        printf("%s\n-device ivshmem-doorbell,id=ivgpu0,chardev=ivgpu,vectors=%u,bus=ivgpu-port\n", plain ? "" : "'",
               vm->vectors);
}

/* ---- libvirt ---- */

static void xml_text_print(const char *text)
{
        for (; *text; text++)
                switch (*text) {
                case '&':
                        fputs("&amp;", stdout);
                        break;
                case '<':
                        fputs("&lt;", stdout);
                        break;
                case '\'':
                        fputs("&apos;", stdout);
                        break;
                default:
                        putchar(*text);
                }
}

/* A root port of the VM's own, whose window libvirt has no word for: its property is set over libvirt's head. Without
 * an address libvirt would put the device behind a PCI bridge. */
static void libvirt_print(const struct ivg_attachment *vm)
{
        printf("<!-- virsh edit NAME: xmlns:qemu, these devices and qemu:override go into the VM's definition. 15 (bus "
               "0x0f) is "
               "a number that no controller there has. -->\n"
               "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
               "  <devices>\n"
               "    <controller type='pci' index='15' model='pcie-root-port'>\n"
               "      <alias name='ua-ivgpu-port'/>\n"
               "    </controller>\n"
               "    <shmem name='ivgpu-%u'>\n"
               "      <model type='ivshmem-doorbell'/>\n"
               "      <server path='",
               vm->vm_id);
        xml_text_print(vm->socket);
        printf("'/>\n"
               "      <msi vectors='%u' ioeventfd='on'/>\n"
               "      <address type='pci' domain='0x0000' bus='0x0f' slot='0x00' function='0x0'/>\n"
               "    </shmem>\n"
               "  </devices>\n"
               "  <qemu:override>\n"
               "    <qemu:device alias='ua-ivgpu-port'>\n"
               "      <qemu:frontend>\n"
               "        <qemu:property name='pref64-reserve' type='unsigned' value='%llu'/>\n"
               "      </qemu:frontend>\n"
               "    </qemu:device>\n"
               "  </qemu:override>\n"
               "</domain>\n",
               vm->vectors, (unsigned long long)window_mib(vm) << 20);
}

bool ivg_attach_print(const struct ivg_attachment *vm, const char *format)
{
        if (strcmp(format, "qemu") == 0)
                qemu_print(vm);
        else if (strcmp(format, "libvirt") == 0)
                libvirt_print(vm);
        else
                return false;
        return true;
}
