# tests/gpu needs a GPU; what can be shown without one: that its runner tells and fails, and its part for tests/cuda on the
# soft GPU.
if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  # A sanitizer's library cannot be loaded into a program by itself, and it has nothing to see in a runner.
  if(NOT IVG_SANITIZE)
    add_test(NAME gpu_run_exits_truly
             COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/gpu_run_exits_truly.py)
    set_tests_properties(gpu_run_exits_truly PROPERTIES TIMEOUT 180 LABELS integration)
    add_test(NAME gpu_four_processes_on_the_soft_gpu COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/gpu/four_processes
                                                             --device soft --build ${CMAKE_BINARY_DIR})
    set_tests_properties(gpu_four_processes_on_the_soft_gpu PROPERTIES TIMEOUT 300 LABELS "integration;cuda")
    add_test(NAME gpu_shares_on_the_soft_gpu
             COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/gpu/shares --device soft --seconds 0.6
                     --only fair-3-1-kernels,two-native,high-fair-kernel,idle,caps,slices,fault --build ${CMAKE_BINARY_DIR})
    set_tests_properties(gpu_shares_on_the_soft_gpu PROPERTIES TIMEOUT 300 LABELS "integration;cuda;sched")
    add_test(NAME gpu_run_on_the_soft_gpu
             COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/gpu/run --device soft --build ${CMAKE_BINARY_DIR})
    set_tests_properties(gpu_run_on_the_soft_gpu PROPERTIES TIMEOUT 240 LABELS "integration;cuda")
  endif()
endif()
