/* What the two halves of the attach test agree on. */
#ifndef IVG_VM_ATTACH_H
#define IVG_VM_ATTACH_H

#define ATTACH_FINGERPRINT 0x61747461636821ull
#define ATTACH_CHANNELS 4u
#define ATTACH_VECTORS 3u /* fewer than channels: vectors are shared */
#define ATTACH_ANSWER_ADDS 1000ull
#define ATTACH_ROUNDS 200u

#endif
