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
