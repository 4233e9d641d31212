# What breaks, seen from a program: the whole path in local mode.
if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME path_faults COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/path_faults.py)
  set(path_environment "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  if(IVG_SANITIZE)
    list(APPEND path_environment "IVGPU_SANITIZED=1")
  endif()
  set_tests_properties(path_faults PROPERTIES TIMEOUT 300 LABELS "integration;cuda" ENVIRONMENT "${path_environment}")

  # A guest that breaks every rule, beside one that keeps them.
  add_executable(hostile_guest ${CMAKE_SOURCE_DIR}/tests/integration/hostile_guest.c)
  target_link_libraries(hostile_guest PRIVATE ivg_calls ivg_glue ivg_ring)
  set_target_properties(hostile_guest PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME hostile_guest COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/hostile_guest.py)
  set_tests_properties(hostile_guest PROPERTIES TIMEOUT 300 LABELS "integration;cuda" ENVIRONMENT "${path_environment}")
endif()
