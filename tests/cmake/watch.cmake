# Programs that look on.
ivg_add_test(dump_believes_no_region SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/dump_believes_no_region.c LIBS ivg_watch
             LABELS unit watch)
ivg_add_test(trace_ring_loses_nothing_unsaid SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/trace_ring_loses_nothing_unsaid.c
             LIBS ivg_mediator LABELS unit watch)

if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  foreach(test ivgpu_dump_reads_regions ivgpu_top_shows_rates traces_tell_what_ran)
    add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/${test}.py)
    set_tests_properties(${test} PROPERTIES TIMEOUT 300 LABELS "integration;watch"
                         ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  endforeach()
  # These run CUDA programs on the soft GPU.
  set_tests_properties(ivgpu_top_shows_rates traces_tell_what_ran PROPERTIES LABELS "integration;watch;cuda")
endif()
