#include "doctor.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ivg_report {
        bool as_json;
        struct json_object *findings;
        const struct ivg_check *check;
        unsigned int counts[4]; /* by verdict */
        char seen[IVG_DOCTOR_TEXT_BYTES], remedy[IVG_DOCTOR_TEXT_BYTES];
};

static const char *const verdict_words[] = {
        [IVG_OK] = "ok", [IVG_BAD] = "not ok", [IVG_UNKNOWN] = "unknown", [IVG_NOT_APPLICABLE] = "not applicable"};
static const char *const verdict_marks[] = {
        [IVG_OK] = "ok", [IVG_BAD] = "NOT OK", [IVG_UNKNOWN] = "?", [IVG_NOT_APPLICABLE] = "-"};

struct ivg_report *ivg_report_open(bool as_json)
{
        struct ivg_report *report = calloc(1, sizeof(*report));

        if (!report) {
                fputs("ivgpu-doctor: no memory\n", stderr);
                exit(2);
        }
        report->as_json = as_json;
        report->findings = json_object_new_array();
        return report;
}

void ivg_report_check(struct ivg_report *report, const struct ivg_check *check)
{
        report->check = check;
}

void ivg_seen(struct ivg_doctor *doctor, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(doctor->report->seen, sizeof(doctor->report->seen), format, arguments);
        va_end(arguments);
}

void ivg_remedy(struct ivg_doctor *doctor, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(doctor->report->remedy, sizeof(doctor->report->remedy), format, arguments);
        va_end(arguments);
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
        if (text && text[0] != '\0')
                json_object_object_add(object, key, json_object_new_string(text));
}

static void print(const struct ivg_report *report, enum ivg_verdict verdict, const char *object)
{
        printf("%-6s  %-13s  %s%s%s\n", verdict_marks[verdict], report->check->name, object, object[0] ? ": " : "",
               report->seen);
        if (report->remedy[0] != '\0')
                printf("%-6s  %-13s  -> %s\n", "", "", report->remedy);
        fflush(stdout); /* before a check that takes long */
}

void ivg_conclude(struct ivg_doctor *doctor, enum ivg_verdict verdict, const char *fault, const char *object)
{
        struct ivg_report *report = doctor->report;
        struct json_object *finding = json_object_new_object();

        report->counts[verdict]++;
        add_text(finding, "check", report->check->name);
        add_text(finding, "verdict", verdict_words[verdict]);
        add_text(finding, "fault", fault);
        add_text(finding, "object", object);
        add_text(finding, "seen", report->seen);
        add_text(finding, "remedy", report->remedy);
        json_object_array_add(report->findings, finding);
        if (!report->as_json)
                print(report, verdict, object);
        report->seen[0] = report->remedy[0] = '\0';
}

bool ivg_report_close(struct ivg_report *report)
{
        const unsigned int *counts = report->counts;
        const bool healthy = counts[IVG_BAD] == 0;

        if (report->as_json) {
                struct json_object *all = json_object_new_object();

                json_object_object_add(all, "healthy", json_object_new_boolean(healthy));
                json_object_object_add(all, "findings", report->findings);
                puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
                json_object_put(all);
        } else {
                printf("%u ok, %u not ok, %u unknown, %u not applicable\n", counts[IVG_OK], counts[IVG_BAD],
                       counts[IVG_UNKNOWN], counts[IVG_NOT_APPLICABLE]);
                json_object_put(report->findings);
        }
        free(report);
        return healthy;
}
