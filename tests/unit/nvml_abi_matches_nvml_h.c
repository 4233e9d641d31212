/* Our declaration of NVML's types against NVIDIA's header: numbers by name, sizes and places of members. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct ours {
        const char *what;
        long value;
};
extern const struct ours nvml_ours[];
extern const struct ours nvml_theirs[];

int main(void)
{
        int wrong = 0, count = 0;

        for (; nvml_ours[count].what != NULL && nvml_theirs[count].what != NULL; count++)
                if (nvml_ours[count].value != nvml_theirs[count].value) {
                        fprintf(stderr, "%s: %ld here, %ld in nvml.h\n", nvml_ours[count].what, nvml_ours[count].value,
                                nvml_theirs[count].value);
                        wrong++;
                }
        printf("%d numbers compared, %d differ\n", count, wrong);
        return wrong != 0 || count < 40;
}
