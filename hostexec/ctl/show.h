/* The mediator's answers for people. */
#ifndef IVGPUCTL_SHOW_H
#define IVGPUCTL_SHOW_H

#include <json-c/json.h>

void ivg_show_list(struct json_object *answer);
void ivg_show_member(struct json_object *answer);
void ivg_show_stats(struct json_object *answer);
void ivg_show_programs(struct json_object *answer);

#endif
