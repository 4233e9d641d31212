/* What ivgpud's log tells: an event each, with an identifier that stays (journalctl MESSAGE_ID=...), a level and a
 * meaning.
 *
 * A row is never given another meaning, and an identifier is never used again. docs/operations.md has this table;
 * ivgpud_logs_to_the_journal compares. */
#ifndef IVGPUD_LOG_EVENTS_H
#define IVGPUD_LOG_EVENTS_H

#include <stdint.h>

enum ivg_log_level { IVG_LOG_ERROR, IVG_LOG_WARNING, IVG_LOG_INFO };

/* clang-format off */
#define IVG_LOG_EVENTS(X) \
        X(STARTED, "848e9bc2bb71441db5af452f156c760c", INFO, \
          "ivgpud runs: which driver it gives to executors") \
        X(ENDS, "2f4377bf871a4e6abb23ea278ab7af13", INFO, \
          "ivgpud ends, and why") \
        X(START_FAILED, "7cd50fbd9d554fcfba694a7e3657fe8a", ERROR, \
          "it could not start, or its loop failed") \
        X(HEARTBEAT, "6a36dd99863849c58c3d7fd79c577230", INFO, \
          "it is alive: every `heartbeat_log_s`") \
        X(STATS, "5d1da2f6a200455b85b5f4bec6f26d37", INFO, \
          "counters: on SIGUSR1 and at the end") \
        X(MANAGER, "c7c2d523aecf4ec185ddfe71ebfb324b", WARNING, \
          "the service manager could not be told something") \
        X(LISTENING, "b28e7cb0dabb48049299a055d54e4160", INFO, \
          "a socket is open, of whom") \
        X(SOCKET_UNUSED, "b064ae18cab84451b618e0d513585ec8", WARNING, \
          "the service manager holds a socket that no configuration names") \
        X(SOCKET_FAILED, "4a392777fdaa4c9bb133832093a52533", ERROR, \
          "a socket takes no connections, or not its mode") \
        X(CONNECTED, "d35beb3b220c4833841fa07ae7c37bfd", INFO, \
          "QEMU or a local program connected") \
        X(ATTACHED, "771b392029cf439aaf6d8897382b3d22", INFO, \
          "it has its region") \
        X(REFUSED, "0630d89ce0eb44289b15887a0be28be7", ERROR, \
          "it got none, and why") \
        X(DETACHED, "9f047ba7b0974e759f3f4ebc7f169d00", INFO, \
          "it is gone: its programs end") \
        X(BOOTED, "6300d01a3b734ccb8effa0795553b274", INFO, \
          "a guest booted anew: its earlier programs end") \
        X(DOORBELL_FAILED, "2f5eda8878e64595a2a0a33deea878a4", WARNING, \
          "a doorbell or interrupt did not get through") \
        X(VECTORS_FAILED, "3dcff8f2f8a446a99db5e97687d41a8d", ERROR, \
          "channels that share vectors have no doorbells: their programs will hang") \
        X(PROGRAM_STARTED, "132e921534f2453f962a7d7ce84167dd", INFO, \
          "an executor serves a program, `warm` or `cold`") \
        X(PROGRAM_REFUSED, "f9ae248b3b6249999d2f9f8cf1b235e0", WARNING, \
          "a program gets no executor: the error that it prints") \
        X(PROGRAM_FAILED, "2e6ec80033ae485fa5e90e9446f37960", ERROR, \
          "its executor did not get ready, or died: the error that it prints") \
        X(PROGRAM_ENDED, "52a217c5df0241e6abf8f18db2b655f6", INFO, \
          "its executor is gone, in order") \
        X(PROTOCOL_FAULT, "e43f910f24a443438c7918f8ca6987ec", ERROR, \
          "a program broke a rule of its channel and ended") \
        X(TIME_LIMIT, "c6032f118e2b45c59f0d41879dbb3e47", ERROR, \
          "a call, a kernel or an executor took longer than its VM's limit") \
        X(QUARANTINED, "b2a0e32e0c7e4b7bbe41f2b6824987ee", ERROR, \
          "a VM is in quarantine, and why") \
        X(RELEASED, "4651ff5d8a864110b7d0ad0e47e8055c", WARNING, \
          "quarantine ends, and why") \
        X(EXECUTOR_SAYS, "412b8f15248d492bb4f579d82bb2e451", INFO, \
          "a line that an executor, or the driver in it, wrote") \
        X(EXECUTOR_ODD, "0c72661452b54110a94c82253c7ed525", WARNING, \
          "an executor sent what is none of ours") \
        X(WARM_WAITS, "7d3e3097abd649e7a2fe6066a9083e84", INFO, \
          "an executor waits for a program, or ended in order while it did") \
        X(WARM_LOST, "0d8d13194d7548808ff745c2c74e869f", WARNING, \
          "one was lost while it waited, or could not start") \
        X(IMAGES_LOST, "f5197b98a4834e4eb12ea13f9ba32b33", WARNING, \
          "the keeper of module images is gone or unreachable: images are sent") \
        X(SCHED_LIMITED, "f90e8014a9c64a359d301675591a21bf", WARNING, \
          "part of a pool's policy has no effect") \
        X(SCHED_FAILED, "6b06ce4a7dc8441ab6f6f03178b4d930", ERROR, \
          "an executor runs unscheduled, or the scheduler's clock failed") \
        X(MPS, "343cd61c34f04b98bc84c5a4bf07fec2", INFO, \
          "a pool's MPS server: it serves, or there is none") \
        X(MPS_FAILED, "263c14058a9c4ebabdc1d640c9817e47", ERROR, \
          "it is gone or does not start: what becomes of programs") \
        X(TRACE, "b2c1641192af4158bf70acdfea9998b9", INFO, \
          "a trace of a VM's calls is over") \
        X(TRACE_FAILED, "ac3b476875294a9081aea6d832d679c0", WARNING, \
          "a program is left out of it") \
        X(CONTROL, "f1cc9acd8b9b4e07909f3bd1db127d3b", INFO, \
          "who changed what by ivgpuctl, and what was refused") \
        X(CONTROL_REFUSED, "447dff58c90b4eb5a198ef38294c65a3", WARNING, \
          "a client of the control socket was cut off") \
        X(RELOADED, "cf9afc2616a546e4875e36445c7ff4f3", INFO, \
          "another configuration holds, or a removed VM or pool is gone") \
        X(RELOAD_LATER, "e094d7df9ee84963b3b716547f249dc5", INFO, \
          "what of it holds from a later start") \
        X(RELOAD_FAILED, "6372d2f0241e4724a52bcc6c0ceca562", ERROR, \
          "nothing of it holds, and why") \
        X(SUPPRESSED, "c785b27e3458406b87726d4bb55fa551", WARNING, \
          "so many lines of one kind and VM were not shown")
/* clang-format on */

#define IVG_LOG_EVENT_NAME(name, id, level, meaning) IVG_EVENT_##name,
enum ivg_log_event { IVG_LOG_EVENTS(IVG_LOG_EVENT_NAME) IVG_LOG_EVENT_COUNT };
#undef IVG_LOG_EVENT_NAME

#endif
