find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_test(NAME apigen_tables
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/unit/apigen_tables.py ${CMAKE_SOURCE_DIR})
add_test(NAME coverage_page_is_current
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/apigen/apigen.py --check-coverage
                 ${CMAKE_SOURCE_DIR}/docs/coverage.md)
set_tests_properties(apigen_tables coverage_page_is_current PROPERTIES LABELS "unit;apigen" TIMEOUT 180)

set(generated ${CMAKE_BINARY_DIR}/generated)
foreach(source host_dispatch call_print call_samples send_samples)
  set_source_files_properties(${generated}/${source}.c PROPERTIES GENERATED TRUE)
endforeach()
# The largest sources there are: compiled once for the tests of both halves.
add_library(call_host_half OBJECT ${generated}/host_dispatch.c ${generated}/call_print.c)
target_include_directories(call_host_half PRIVATE ${CMAKE_SOURCE_DIR}/hostexec/exec)
target_link_libraries(call_host_half PRIVATE ivg_calls ivg_glue ivg_ring)
ivg_add_test(call_decode_sweep SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/call_decode_sweep.c ${generated}/call_samples.c
             LIBS call_host_half ivg_calls ivg_glue ivg_ring LABELS unit apigen)
if(TARGET call_decode_sweep)
  target_include_directories(call_decode_sweep PRIVATE ${CMAKE_SOURCE_DIR}/hostexec/exec)
endif()

# Both halves against each other: a guest's and an executor's header do not go into one file, so there are two.
ivg_add_test(call_encode_meets_decode
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/call_encode_meets_decode.c
                     ${CMAKE_SOURCE_DIR}/tests/unit/call_encode_fake.c ${generated}/send_samples.c
             LIBS call_host_half ivg_calls ivg_glue ivg_ring LABELS unit apigen)
if(TARGET call_encode_meets_decode)
  target_include_directories(call_encode_meets_decode PRIVATE ${CMAKE_SOURCE_DIR}/hostexec/exec
                                                              ${CMAKE_SOURCE_DIR}/guest/src)
endif()

if(TARGET ivg_libcuda AND TARGET ivgpu-exec)
  add_test(NAME shim_exports_are_written
           COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/unit/shim_exports_are_written.py ${CMAKE_SOURCE_DIR}
                   $<TARGET_FILE:ivg_libcuda> $<TARGET_FILE:ivgpu-exec>)
  set_tests_properties(shim_exports_are_written PROPERTIES LABELS "unit;apigen" TIMEOUT 180)
else()
  message(STATUS "shim_exports_are_written: not built, needs the targets ivg_libcuda and ivgpu-exec")
endif()

# Our types against NVIDIA's, where a toolkit is installed.
find_path(IVG_CUDA_INCLUDE cuda.h PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES include)
if(IVG_CUDA_INCLUDE)
  set(abi_list ${CMAKE_CURRENT_BINARY_DIR}/abi_list.h)
  file(GLOB abi_headers ${CMAKE_SOURCE_DIR}/tools/apigen/include/ivgpu/cuda_abi*.h)
  add_custom_command(OUTPUT ${abi_list}
                     COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/unit/abi_list.py
                             ${CMAKE_SOURCE_DIR}/tools/apigen/include ${CMAKE_CURRENT_BINARY_DIR}
                     DEPENDS ${abi_headers} ${CMAKE_SOURCE_DIR}/tests/unit/abi_list.py VERBATIM)
  ivg_add_test(abi_matches_cuda_h
               SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/abi_matches_cuda_h.c ${CMAKE_SOURCE_DIR}/tests/unit/abi_ours.c
                       ${CMAKE_SOURCE_DIR}/tests/unit/abi_theirs.c ${abi_list}
               LIBS ivg_calls LABELS unit apigen)
  if(TARGET abi_matches_cuda_h)
    target_include_directories(abi_matches_cuda_h PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
    target_include_directories(abi_matches_cuda_h SYSTEM PRIVATE ${IVG_CUDA_INCLUDE})
    # Their deprecated declarations, and ours on top of theirs.
    set_source_files_properties(${CMAKE_SOURCE_DIR}/tests/unit/abi_theirs.c PROPERTIES COMPILE_OPTIONS
                                "-Wno-deprecated-declarations;-Wno-redundant-decls;-Wno-undef;-Wno-strict-prototypes")
  endif()
else()
  message(STATUS "abi_matches_cuda_h: not built, no cuda.h found (set CUDA_HOME)")
endif()
