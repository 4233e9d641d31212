/* What libcuda.so.1 says of its build to whoever reads its file, so that two builds can be told apart without running
 * either (ivgpu-doctor). */
#ifndef IVG_BUILD_MARK_H
#define IVG_BUILD_MARK_H

#define IVG_BUILD_TEXT_(value) #value
#define IVG_BUILD_TEXT(value) IVG_BUILD_TEXT_(value)
#define IVG_BUILD_MARK_BYTES 128u
#define IVG_BUILD_MARK_BEGIN "ivgpu build: "
/* Needs ivgpu_calls.h and ivgpu/region_layout.h. */
#define IVG_BUILD_MARK         \
        IVG_BUILD_MARK_BEGIN   \
        "version " IVG_VERSION \
        ", calls " IVG_BUILD_TEXT(IVG_CALL_TABLE_FINGERPRINT) ", layout " IVG_BUILD_TEXT(IVG_LAYOUT_VERSION)

#endif
