# The benchmarks: that they measure what they say, and guards of the fast path that do not depend on the machine.
if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  if(NOT IVG_SANITIZE)
    # Under a sanitizer "native" would load a library of it into a program without.
    add_test(NAME bench_gpu_tells_both_sides
             COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/bench_gpu_tells_both_sides.py)
    set_tests_properties(bench_gpu_tells_both_sides PROPERTIES TIMEOUT 300 LABELS "integration;bench"
      ENVIRONMENT "IVGPU_BUILD=${CMAKE_BINARY_DIR};IVGPU_BENCH_GPU=${CMAKE_SOURCE_DIR}/tools/bench-gpu")
  endif()
endif()

# Programs of the guard are built with sanitizers too, but counted without: those add instructions and calls of their own.
add_executable(guard_guest_burst ${CMAKE_SOURCE_DIR}/tests/guard/guest_burst.c)
set_target_properties(guard_guest_burst PROPERTIES OUTPUT_NAME guest_burst SKIP_BUILD_RPATH ON
                                                   RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_include_directories(guard_guest_burst PRIVATE ${CMAKE_SOURCE_DIR}/tests/cuda)
target_link_libraries(guard_guest_burst PRIVATE ivg_calls ivg_libcuda)
ivg_add_test(exec_burst SOURCES ${CMAKE_SOURCE_DIR}/tests/guard/exec_burst.c
             LIBS exec_fixture ivg_exec_core LABELS unit exec bench)
if(BUILD_TESTING AND NOT IVG_SANITIZE AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Its bounds are about optimised code of gcc, and valgrind 3.19 cannot read clang's debug information.
  add_test(NAME fast_path_guard COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/guard/fast_path.py)
  set_tests_properties(fast_path_guard PROPERTIES TIMEOUT 600 LABELS "integration;bench"
                                                  ENVIRONMENT "IVGPU_BUILD=${CMAKE_BINARY_DIR}")
endif()
if(BUILD_TESTING AND NOT IVG_SANITIZE)
  foreach(test ring_bench_tells_figures ring_bench_crosses_a_region)
    add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/${test}.py)
    set_tests_properties(${test} PROPERTIES TIMEOUT 400 LABELS "integration;bench"
                         ENVIRONMENT "IVGPU_RING_BENCH=$<TARGET_FILE:ivgpu-ring-bench>")
  endforeach()
endif()
